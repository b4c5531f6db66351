--
-- PostgreSQL database dump
--

-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 18.4

--
-- Name: alembic_version; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);

--
-- Name: leases; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.leases (
    name text NOT NULL,
    holder text NOT NULL,
    expire_time bigint NOT NULL
);

--
-- Name: log_head; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.log_head (
    id smallint NOT NULL,
    epoch text NOT NULL,
    sequence bigint NOT NULL,
    compacted_sequence bigint NOT NULL,
    key_revision bigint NOT NULL,
    newest_sequence bigint,
    newest_time bigint,
    awaited_sequence bigint DEFAULT '0'::bigint NOT NULL,
    server text,
    replicated_sequence bigint,
    CONSTRAINT log_head_one_row_check CHECK ((id = 1))
);

--
-- Name: mac_keys; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.mac_keys (
    version integer NOT NULL,
    wrapped bytea NOT NULL,
    wrapping_key_id text NOT NULL,
    create_time bigint NOT NULL
);

--
-- Name: nodes; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.nodes (
    node_id text NOT NULL,
    report_time bigint NOT NULL,
    connected integer NOT NULL,
    applied text NOT NULL,
    foreign_confirmations text NOT NULL,
    key_revision bigint DEFAULT '0'::bigint NOT NULL
);

--
-- Name: revocation_floors; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.revocation_floors (
    kind smallint NOT NULL,
    target text NOT NULL,
    sequence bigint NOT NULL,
    raise_time bigint NOT NULL
);

--
-- Name: revocations; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.revocations (
    sequence bigint NOT NULL,
    revoke_time bigint NOT NULL,
    expire_time bigint NOT NULL,
    token_expire_time bigint,
    target smallint NOT NULL,
    reason smallint NOT NULL,
    value text NOT NULL,
    comment text NOT NULL
);

--
-- Name: sessions; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.sessions (
    id uuid NOT NULL,
    create_time bigint NOT NULL,
    rotate_time bigint NOT NULL,
    last_use_time bigint NOT NULL,
    idle_expire_time bigint NOT NULL,
    absolute_expire_time bigint NOT NULL,
    purge_time bigint NOT NULL,
    revoke_time bigint,
    generation bigint NOT NULL,
    revision bigint NOT NULL,
    key_version integer NOT NULL,
    retries integer NOT NULL,
    access_token_ttl integer,
    revoke_reason smallint NOT NULL,
    with_id_token boolean NOT NULL,
    subject text NOT NULL,
    client_id text NOT NULL,
    device_id text NOT NULL,
    refresh_hash bytea,
    previous_hash bytea,
    session_hash bytea,
    request_hash bytea,
    scopes text NOT NULL,
    audience text NOT NULL,
    auth_context text,
    confirmation text,
    custom_claims text NOT NULL
)
WITH (fillfactor='75');

--
-- Name: signing_keys; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.signing_keys (
    key_id text NOT NULL,
    algorithm text NOT NULL,
    state text NOT NULL,
    public_key bytea NOT NULL,
    private_key bytea NOT NULL,
    wrapping_key_id text NOT NULL,
    create_time bigint NOT NULL,
    activate_time bigint,
    retire_time bigint,
    revoke_time bigint,
    provider text DEFAULT 'local'::text NOT NULL,
    certificates text DEFAULT '[]'::text NOT NULL
);

--
-- Data for Name: alembic_version; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.alembic_version VALUES ('0004');

--
-- Data for Name: leases; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.leases VALUES ('keys', 'vm:4252:9e6cf15a', 1796023056768444);
INSERT INTO public.leases VALUES ('janitor', 'vm:4252:9e6cf15a', 1796023146857910);
INSERT INTO public.leases VALUES ('time', '', 1796023026681170);

--
-- Data for Name: log_head; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.log_head VALUES (1, 'FI1hr2HMkLMMYlXK', 5, 0, 7, 5, 1796023027098418, 0, '7713860145699704808/00000001', NULL);

--
-- Data for Name: mac_keys; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.mac_keys VALUES (1, '\x01d3040edcf8e5ddcaeadca5e463d1614d456d6971ccf4b75c13102e95dd2261352a714aefbdcb1c61c306c685b88eaa4388cebcd3c0d6d2294b6dfe7e', 'DgTRpTkPnCuAKcb5', 1796023026492290);
INSERT INTO public.mac_keys VALUES (2, '\x01b5eb4cabdacbe93fc547ac191f601bc436f66cd38ccf20f676695071c2ed1c860c9f2517712ddbcb85f3776bf92f1e5fc98a2295cc8a6831e5e9a862', 'DgTRpTkPnCuAKcb5', 1796023026492290);

--
-- Data for Name: nodes; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.nodes VALUES ('vm:4252:9e6cf15a', 1796023027264542, 1, '[[5,1]]', '[]', 0);

--
-- Data for Name: revocation_floors; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.revocation_floors VALUES (3, 'dave', 2, 1796023026877902);
INSERT INTO public.revocation_floors VALUES (4, 'kiosk', 3, 1796023026886209);

--
-- Data for Name: revocations; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.revocations VALUES (1, 1796023026866260, 1796026926868020, NULL, 2, 0, 'b5a961b0-3fe8-417f-a476-3acba22533f8', 'recorded');
INSERT INTO public.revocations VALUES (2, 1796023026877902, 1796026926879710, NULL, 3, 0, 'dave', 'recorded');
INSERT INTO public.revocations VALUES (3, 1796023026886209, 1796026926887461, NULL, 4, 0, 'kiosk', 'recorded');
INSERT INTO public.revocations VALUES (4, 1796023026893986, 1796026926895366, NULL, 1, 0, 'aISXp5nBtarOqHMcXgDSJg', 'recorded');
INSERT INTO public.revocations VALUES (5, 1796023027098418, 1796026927101578, NULL, 5, 0, 'LtLmaE42U1Uoe7cMDmutEUjEEHKAl6satsdWQoIMD2c', 'recorded');

--
-- Data for Name: sessions; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.sessions VALUES ('7d3bb663-b0db-4123-b0b2-0ddc15289b5d', 1796023026761982, 1796023026761982, 1796023026761982, 1796627826761982, 1797232626761982, 1796627826761982, NULL, 0, 0, 1, 0, NULL, 0, true, 'alice', 'web', 'phone-1', '\x27ae1c9c80e86c3a699ed233e469a1fc691c52459026af23fde01b3592325ea4', NULL, '\x71e7e61e8ea73fd2ef544a87bd358cb945caa76cbd0df2c14cd6ed464de972ab', '\x200651a8b2d5912f692db89468a7d47d86a3ed6844f48f1b15f2be1d9c9a7e5e', '["read","write"]', '["https://api.example"]', NULL, NULL, '{"tier":"gold"}');
INSERT INTO public.sessions VALUES ('483675cc-109f-4997-ae18-122d8f71bd15', 1796023026800760, 1796023026844154, 1796023026844154, 1796627826844154, 1797232626800760, 1796627826800760, NULL, 1, 0, 1, 0, NULL, 0, true, 'bob', 'web', '', '\xb57711c15715b127e2728f09b1066f0b19d22553c05cf697252afb6df6b8d6c6', '\xccb247e0fc238573e9be64882a7fc6be9e9df2c2e87900b53d67c123d79f2f4d', '\x31fd6dd77bbacc9d816ce59c05129404389723ed7b14c752db710e7adc5dfe33', NULL, '["read","write"]', '["https://api.example"]', NULL, NULL, '{}');
INSERT INTO public.sessions VALUES ('168f394f-ce74-4ab5-9ddb-96148efd6d96', 1796023026854498, 1796023026854498, 1796023026854498, 1796627826854498, 1797232626854498, 1796627826854498, NULL, 0, 0, 1, 0, NULL, 0, true, 'dave', 'web', '', '\x26f0d5db7c7cf6356cedb862584620b3078f5f999f1b4b6b347c13346bdab3e3', NULL, '\x559568305d1d8b311b918e07d2e443c565a6c61bce654fc4382976baaf02875b', NULL, '["read","write"]', '["https://api.example"]', NULL, NULL, '{}');
INSERT INTO public.sessions VALUES ('43284b12-27eb-4044-ab00-f1de087348f2', 1796023026858097, 1796023026858097, 1796023026858097, 1796627826858097, 1797232626858097, 1796627826858097, NULL, 0, 0, 1, 0, NULL, 0, true, 'erin', 'kiosk', '', '\x0d2e361f460dfd0dd15126967811d69577a13758bb3293cd13445e6293cac24e', NULL, '\xdf6d9a33818bcc0e5effc6bb0e80a23c75cb9f9662da05a25f0510b4854abfd0', NULL, '["read","write"]', '["https://api.example"]', NULL, NULL, '{}');
INSERT INTO public.sessions VALUES ('c371c3b9-bd50-4445-86c1-2389deada6e8', 1796023026863100, 1796023026863100, 1796023026863100, 1796627826863100, 1797232626863100, 1796627826863100, NULL, 0, 0, 1, 0, NULL, 0, true, 'frank', 'web', '', '\x403da5ba414fcad0a7407f3306c5a8fe3672c2fa72166d35b5f7fc2242c2bc54', NULL, '\x78e6ca06c34a316c99bf8d42bef33c36e650403eb3d0c09ae7d325a0f8c8b3bb', NULL, '["read","write"]', '["https://api.example"]', NULL, NULL, '{}');
INSERT INTO public.sessions VALUES ('b5a961b0-3fe8-417f-a476-3acba22533f8', 1796023026851899, 1796023026851899, 1796023026851899, 1796627826851899, 1797232626851899, 1796023026866260, 1796023026866260, 0, 0, 1, 0, NULL, 0, true, 'carol', 'web', '', '\x3992608b89e7d56269dce20aa2afa7e4a9d1a43178136ce4c7e398301ea74ced', NULL, '\x88ee82140582010acd1b9c0c105b8d9fba9776bdce51b1b320d093e3ef4d6d4c', NULL, '["read","write"]', '["https://api.example"]', NULL, NULL, '{}');
INSERT INTO public.sessions VALUES ('76e6848a-c024-4b72-8884-d3176018753c', 1796023026938204, 1796023026938204, 1796023026938204, 1796627826938204, 1797232626938204, 1796627826938204, NULL, 0, 4, 1, 0, NULL, 0, true, 'gina', 'web', '', '\xf3c7abdab25be4fb0a8dded7775a6a39195fbecfa0b2428715d4f03e584ea72f', NULL, '\x9249da2e6fe4afcf417a95ed69e97d8806eee3c91c8fff57f2f378b7fbff709f', NULL, '["read","write"]', '["https://api.example"]', NULL, NULL, '{}');

--
-- Data for Name: signing_keys; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.signing_keys VALUES ('dssP1VezDEByAPbJOvoSI7MIDOWSjLTBTSkSFYbmc5c', 'ES256', 'prepared', '\x3059301306072a8648ce3d020106082a8648ce3d0301070342000459c642a9ef4f4deb5914e3dfedc924ed700e9c9d024b60130dd4f9e1b5a32f55f4ae638dcbfdbbe24eabe7941490748a4d766f9447dcc78d3eff92b6647c176a', '\x010a9a38e1ad27a2350fcadedf665433bd921d49179e74a89956872749b10e5654153800c6bb41d10a505ee5ea9c48f27f6350bdca6710337d99ae0a95ef5c401f755cfcf2f2faf7d9dc5c99ab5b78781525c47cd5a581d3fab5b5f0fe0e839420efd81e342b9c1a8b23adf760cfa8e9b67dedb745ccea761e3f3db3c5d89b65b50699c492d2d9c0a1165e327b44caeccdcf208f34b44372392234934f95afd9c2c4e4a808cbd5', 'DgTRpTkPnCuAKcb5', 1796023026783271, NULL, NULL, NULL, 'local', '[]');
INSERT INTO public.signing_keys VALUES ('VFG-RlnXRxRaTnWE1jcUQ34QNZFJDO3X055dSuraecc', 'ES256', 'active', '\x3059301306072a8648ce3d020106082a8648ce3d03010703420004d7e15f7ad233cc604b3a4742cf3e7e23229a5a2b3021933177f22dd41b1f379531c7811fd94fe7aa4ffc51bad64135ef7f448fd3bfdf9ea18f48596f62057f58', '\x01f284f9396e302038740e645226054fd883c301fa5b641e5ce0dcec6c5118eaf8c0ee54d7dbaac11c8ad9eaa2c4a7328a54060fcbfea49eb87b06dbc7dbf524242f7cad1b9a085187a8e526547e954c77b03fdb3d675da8b5e81b345099c6c1ccb42aaf594f4bdbea526e95d16cfa510cddbcf1d4c2827f37cfbfa373d3d493b168693022d415d94792b3a2fd523ae5bf9ab1207f4bd4d0b3d069d1e11176cd4a81d92d27c6d8', 'DgTRpTkPnCuAKcb5', 1796023026904546, 1796023026926345, NULL, NULL, 'local', '[]');
INSERT INTO public.signing_keys VALUES ('4LEZCuVI2aJfPFtz8IizyipIsrdHmgp1CsqcPGv6vaY', 'ES256', 'retired', '\x3059301306072a8648ce3d020106082a8648ce3d030107034200043d6c640079e5a02aad17aaaac1cfbf027d214558aab1c7a8fbcf5d7c10f751507497411b48835bc07defac6ae1cc91834fdf43ada92dd153f0a4cd90d4fc2b16', '\x019f30429383b884d9987b28ef4b7b5feb43ae847fd8c7a1c57f34ad37b96d5b670210102b2f8ac16f88d149fed839370f8b253db9e80df6a82324513232126844a16078ee4bb25907727b78658139eab27ea88cb0890b212c8da9af79d6a555639c4b23ef4124039b8ec1df985dc118e4a355ebe28bf226eed9c43838b0a1155d3b40d6696ce79f7de402315673da1fadd1ce31de1a68fb42cf527411793abfddf0c620d493ab', 'DgTRpTkPnCuAKcb5', 1796023026492290, 1796023026492290, 1796023026926345, NULL, 'local', '[]');
INSERT INTO public.signing_keys VALUES ('2TtRUvVzNG5VR-mn2_mtVIeMIoGa8zHGC0A-Ydaf91A', 'RS256', 'prepared', '\x30820122300d06092a864886f70d01010105000382010f003082010a0282010100dd38f8073bbe5e45d66b5954d017506adac8b3b84a8c5e54ab360c4772c823cd677cf2f6b347975b7ba77d42f68fc79603e736b4ae12457a6ada9a4b03dfb70b26a354368e63a1befd861251a6819ced3d4b828f16be0ef5f4d0c176bc3c5e5f66dc040b38a12dc16610c47e6752a2b5724317a4aff944ab1ec4a098a3be9b270aa5a5cfd2ea3c954490a62cd5b618460369c7ca2d99431082967cfe7053f4b47affb42873830d2ad193fd76532ca256a159a092a22c6eccbd78139efc3f7b53cf7dbf4f281b2ccc3489e33a128d32a0099ed8a779caf910462652f62b74e92f59672b244802dcf66d6c026783204ef581c948b942d0d6e22eece11625aa168d0203010001', '\x0119714f6824cb42c7758beeff861099c55f658cc05138458bb89bdda851cb9f2f527f9ac74b5bafe3911f1063f8c964993afc1ba899af198bb0ad84732ce4b4568b06ea812a152d87b9c867a5198c6dd6cb94aa7fc965651f8a91df982f6acd8547f0995d38d390f5b9d20d22c38231b55f5e2d88c4dc1565a2a3b1d055918df9ae047c44d90793656493f0ef3be1f0abc99b4094d60e21a86a76a49096247e3f02b14ff1242936c72b10eca69333dc97536c6cd0bccba3475f6e525b5744cbcab64177206ef28620fbacd3bbb4110fe3f99c7babd157f243c8d3d89da100fafc64232abac20f99726e9cfefceb24464f7ca13933b3de05df3faea1fb49b8894b52738d698f651b9ad944cceb4fcedfac4596ea6692adcac92c705f9ce3b00436e023bf80aad147cee72fee907a69670ea7406894f8328c99768a19de0104050714be274aa3a290d0b9b02bf7dce17687714731114d93c98209f90cceda6eb5f363c01a4fecbdf4839f1b7baa803cd030cf158b8dcc75167bbadea6776bf4c387346860ceb06dd075eec34a8ffded126788f92ed8699d4ac0f82eef221a37789cacc2162558a2010e596fe51d1c3e987cd796749fb6e4cd7d8df017385950f26b98bb1cae112842489058ebc2efece76c5c2e7b1111c4fc7e7cd0f8d5a4439f1ac387dba013c648a71fe203d87a83408951e69b0e93398f6f66f72aea3081a58fad6b74191063b78079d61686c9797d2441a4b9e72c664769d0e0e2b55ba08c4c0cb2699110c298cde7b04863caefcf10575e4c4018474c1b89a464d0635a925c7be0d6a1c75b69c230720400311061e1caae23783e653eb9959d3a6573585834ed41eaa2ebb3d09da91ac84fb87babe00ab1f642b099868eb91c6a45cf0b2c73479009fa59a2313efc4abfbf77383112f668f35cf0f78629d28d92c839f96717f2e38445905b3bacf5c763c7e885ef0a849bb29e63745edfbaa1b823c1fa8ffe4e9a1b4cc917f5123a2a9465d184d1f7960211d02d28d3e5fac36091e38d56700275e62b632cb7e0e95aa5cd9abead28f623546cdd9025fcb4cdc50ee4d4fa6794c75f95edc2c0effac708dcc75369ca6c354e9965d0829a3dc788fe8d81d9e8549bd5a3b2b2ae3836247ddefa6aec531426b887b853a4ad1a05a67f0561d1bc4043b25577526fd6f6b2ac6b24780c1a788fa389a202714375132f3e285c86bbd4320c4a3601c8ee52bd6853dca975675b3cf122ce4573b47999fefdc91dce2e7f819a202f17f1871d1baeda6789e9184952ba92ce978b9a78b9e196ac0f64833779eac13969eb157aa3a3cf8d9842593e4a87a1a394aff4e87f8047a482689741ef9c540506b50d6799dd57ae9a7b49539aaa517f6065dc6ef509b8ab4e77958846e0e927f04bd93f648efe28fdf93eaeb4bcd77e197f3a8c700558eeba921249637eed7009e91ccea4874d1e08d9345e1c6791d43c85e10711d1de8001bbbf559e6545c1d7c5f547e20cc0c5ea36e89f7c42c8aa6356691ecc4e36bb4cc112efa5463bbb71856097e652f0105530405692978903c4d05640696f5a6efb68247a08d7af8cbc9bef9c100eb3be3ef8eac8ed95b7957ea9d3d165ad34d75c1b2d3a3f5b0358a7e422308ee1978070548d2db1b5fd4446a2895587ae41b214f63c4f6c791658eeb3dc6602451fa02bd5be4a0fe4a9b9c6993d37fc5dc625616eb5c3b10dbe5092452984d4c98f1e932b45f7b69171ed8c49e7e564c6fcc955', 'DgTRpTkPnCuAKcb5', 1796023026943599, NULL, NULL, NULL, 'local', '[]');
INSERT INTO public.signing_keys VALUES ('LtLmaE42U1Uoe7cMDmutEUjEEHKAl6satsdWQoIMD2c', 'ES256', 'revoked', '\x3059301306072a8648ce3d020106082a8648ce3d030107034200049fe71205fb5bee8decb3e3e17a04d2550faf99e05893cc03cb6c28f554b46fb711ce464abb432e12ff015167376a56ac7776d07c9994a2618a4ba0ce67d17a34', '\x01040c6a27e483c6c1c4d648ea6082782153737b8324c0fc6c26cf254ed7294fbfd20f340dc3a4bb75a3ae6711f0126a5b47010c405d9dc32e8ef175d1aa0e0245615a31ccf38cad64060f4f4a83ad1511ca0b6734edeb4971d5d128d769a1e02aab9a04383d7b4f2e9dc2125e2c112562ed71687bc77adfcb819da8cba7943058f08b5804cd37384ef90c33e1607916ae64a54e50b5efbef5cc059e7b025a062fd19308ff5358', 'DgTRpTkPnCuAKcb5', 1796023027047178, NULL, NULL, 1796023027098418, 'local', '[]');

--
-- Name: alembic_version alembic_version_pkc; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);

--
-- Name: leases leases_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.leases
    ADD CONSTRAINT leases_pkey PRIMARY KEY (name);

--
-- Name: log_head log_head_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.log_head
    ADD CONSTRAINT log_head_pkey PRIMARY KEY (id);

--
-- Name: mac_keys mac_keys_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.mac_keys
    ADD CONSTRAINT mac_keys_pkey PRIMARY KEY (version);

--
-- Name: nodes nodes_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.nodes
    ADD CONSTRAINT nodes_pkey PRIMARY KEY (node_id);

--
-- Name: revocation_floors revocation_floors_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.revocation_floors
    ADD CONSTRAINT revocation_floors_pkey PRIMARY KEY (kind, target);

--
-- Name: revocations revocations_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.revocations
    ADD CONSTRAINT revocations_pkey PRIMARY KEY (sequence);

--
-- Name: sessions sessions_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (id);

--
-- Name: signing_keys signing_keys_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.signing_keys
    ADD CONSTRAINT signing_keys_pkey PRIMARY KEY (key_id);

--
-- Name: revocation_floors_by_raise_time; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX revocation_floors_by_raise_time ON public.revocation_floors USING btree (raise_time);

--
-- Name: sessions_by_client; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX sessions_by_client ON public.sessions USING btree (client_id, create_time, id);

--
-- Name: sessions_by_device; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX sessions_by_device ON public.sessions USING btree (device_id, create_time, id) WHERE (device_id <> ''::text);

--
-- Name: sessions_by_purge_time; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX sessions_by_purge_time ON public.sessions USING btree (purge_time);

--
-- Name: sessions_by_request; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX sessions_by_request ON public.sessions USING btree (client_id, request_hash) WHERE (request_hash IS NOT NULL);

--
-- Name: sessions_by_subject; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX sessions_by_subject ON public.sessions USING btree (subject, create_time, id);

--
-- PostgreSQL database dump complete
--

