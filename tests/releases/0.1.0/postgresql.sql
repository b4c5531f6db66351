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

INSERT INTO public.leases VALUES ('keys', 'vm:17315:bff47dd2', 1796017243665631);
INSERT INTO public.leases VALUES ('janitor', 'vm:17315:bff47dd2', 1796017333716375);
INSERT INTO public.leases VALUES ('time', '', 1796017213645953);

--
-- Data for Name: log_head; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.log_head VALUES (1, 'ywIL9qlgAiwzhJrk', 5, 0, 5, 5, 1796017213825321, 0, '7713835183444407163/00000001', NULL);

--
-- Data for Name: mac_keys; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.mac_keys VALUES (1, '\x01b9bab37ca7c0e653e25181993f998fac4315ec700c0dca9217762fbe6cb7880e3e9fa5694f1808b565dfa727b3abfd0c90585c2746c971db3db93f31', 'T3riQe8H_c1DIDZF', 1796017213546355);
INSERT INTO public.mac_keys VALUES (2, '\x01f141ae20e1d6bd99e9f676f2f8e077973ea0f19b3e0d6981279b99f66478f85f84e9b7e050ffcb72304457005329bba0f24952439cd59ca27dc6bded', 'T3riQe8H_c1DIDZF', 1796017213546355);

--
-- Data for Name: nodes; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.nodes VALUES ('vm:17315:bff47dd2', 1796017213649343, 0, '[]', '[]', 0);

--
-- Data for Name: revocation_floors; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.revocation_floors VALUES (3, 'dave', 2, 1796017213731270);
INSERT INTO public.revocation_floors VALUES (4, 'kiosk', 3, 1796017213738376);

--
-- Data for Name: revocations; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.revocations VALUES (1, 1796017213721816, 1796021113723226, NULL, 2, 0, '2a5acf32-e84b-4cdd-ae3b-cfb83237c7e2', 'recorded');
INSERT INTO public.revocations VALUES (2, 1796017213731270, 1796021113732876, NULL, 3, 0, 'dave', 'recorded');
INSERT INTO public.revocations VALUES (3, 1796017213738376, 1796021113739484, NULL, 4, 0, 'kiosk', 'recorded');
INSERT INTO public.revocations VALUES (4, 1796017213744138, 1796021113745098, NULL, 1, 0, '6jQ0Cq644NTyy3hX0wxWrA', 'recorded');
INSERT INTO public.revocations VALUES (5, 1796017213825321, 1796021113828315, NULL, 5, 0, 'au5cpiEEbX71LWMIKjsaVmCxDYcR8yrkMoLyHGQgbgY', 'recorded');

--
-- Data for Name: sessions; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.sessions VALUES ('fb998287-78ea-420e-9396-c72c35efbd15', 1796017213655990, 1796017213655990, 1796017213655990, 1796622013655990, 1797226813655990, 1796622013655990, NULL, 0, 0, 1, 0, NULL, 0, true, 'alice', 'web', 'phone-1', '\x1bb3f8161446d0c4390e138f527144d49c0029b2b99975c1cf66858874efd5ab', NULL, '\x3ad27d3147c8a058060ca00a74c06392eddfc8e5b7c25664cd24795af9ab373c', '\x200651a8b2d5912f692db89468a7d47d86a3ed6844f48f1b15f2be1d9c9a7e5e', '["read","write"]', '["https://api.example"]', NULL, NULL, '{"tier":"gold"}');
INSERT INTO public.sessions VALUES ('7bf00d26-482e-4334-b840-8095de155d49', 1796017213677003, 1796017213702289, 1796017213702289, 1796622013702289, 1797226813677003, 1796622013677003, NULL, 1, 0, 1, 0, NULL, 0, true, 'bob', 'web', '', '\x3d7a135d4c141ada52c3c1a816bae143d3ad021ece9eb8c1f114453b52311bc3', '\x06fc774087f3586b07be18101a57c52541ca8eed6d2b367201f27c508a191642', '\xf35276a0df2a1dfca5b240e939c166f3e0ac930ea9e5a71cfc085464ad81287f', NULL, '["read","write"]', '["https://api.example"]', NULL, NULL, '{}');
INSERT INTO public.sessions VALUES ('15e41519-93b7-4019-9904-1ee0113fb847', 1796017213712838, 1796017213712838, 1796017213712838, 1796622013712838, 1797226813712838, 1796622013712838, NULL, 0, 0, 1, 0, NULL, 0, true, 'dave', 'web', '', '\xc8d72613f8f9d87aef948b8773c4e2a89ebfb9da0647160a3f99d54421c3246b', NULL, '\x14fb5c5524a5055e1380a8af50d543003a84369bdc78d781ec5f52cec9c93e94', NULL, '["read","write"]', '["https://api.example"]', NULL, NULL, '{}');
INSERT INTO public.sessions VALUES ('d0ae3ab4-0fd9-4a74-a324-58fbd8a4eadd', 1796017213716464, 1796017213716464, 1796017213716464, 1796622013716464, 1797226813716464, 1796622013716464, NULL, 0, 0, 1, 0, NULL, 0, true, 'erin', 'kiosk', '', '\x77506e7761b5a906d5700ad702c76f365d1cfe880b6568f1cb0eb6c4eb65430a', NULL, '\xb49abe5bbcb8ef600cb695a9bcfcfc6b318819b7c55cd0a5c0dc8f8d83b6b49f', NULL, '["read","write"]', '["https://api.example"]', NULL, NULL, '{}');
INSERT INTO public.sessions VALUES ('df2e14ac-ae9b-4334-adb6-209f800474c1', 1796017213719672, 1796017213719672, 1796017213719672, 1796622013719672, 1797226813719672, 1796622013719672, NULL, 0, 0, 1, 0, NULL, 0, true, 'frank', 'web', '', '\x18a23c9d1dffbc0f370d94d97f5e13049961dd6d5b3639a2e10dc4c9bf78d46a', NULL, '\x09f4d2a58eaea63a82d6e39d13d69b625060f7cddbd7e886fd86bdf6ba5cc2be', NULL, '["read","write"]', '["https://api.example"]', NULL, NULL, '{}');
INSERT INTO public.sessions VALUES ('2a5acf32-e84b-4cdd-ae3b-cfb83237c7e2', 1796017213707886, 1796017213707886, 1796017213707886, 1796622013707886, 1797226813707886, 1796017213721816, 1796017213721816, 0, 0, 1, 0, NULL, 0, true, 'carol', 'web', '', '\x605a03f16d096449c19022077a107b00b10cc966f2067082b2717d93c9b72f43', NULL, '\xe352a2abee4eae81a982ee29614bca5d459d4556716801d45bbe7d2b4ba3d502', NULL, '["read","write"]', '["https://api.example"]', NULL, NULL, '{}');

--
-- Data for Name: signing_keys; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.signing_keys VALUES ('iy8kVtVFJ3WJeQwo1gcoxBKU-oqUAUwTiiaYoPaR_Qc', 'ES256', 'active', '\x3059301306072a8648ce3d020106082a8648ce3d03010703420004edb73c1fed0421d4731cacadebc67d367c699ed7dc0312d531fd2fc6b9cd0f4b95fae1b29310ef748016158ed57266df671e521b7090681b58d953979d61833b', '\x01fb77377352a0da09cbee7ee7a1b593e170e85a88cd0cb57dd05137f28357943699e5a50e2487b9bf1b92549edb5ad822bb5ca27bab72cdacad6b88b08e0c827626d83f0dcc01ccfe4cd950de9e077a50f59a06fd308242db29f2c0baa12c994291e73062dd8c4d6ddafb9aa07a73377df23dce41bd848c2e4157dc84146a8a0247707e9ca0e8cde4474a023e9b92df76b4a282162a31abd20f2628428fa54ceea4af16c5a2fe', 'T3riQe8H_c1DIDZF', 1796017213546355, 1796017213546355, NULL, NULL, 'local', '[]');
INSERT INTO public.signing_keys VALUES ('86TpQ3HSJAqhDsnmpzv3xw-uANo_r5M282B6IwNixwg', 'ES256', 'prepared', '\x3059301306072a8648ce3d020106082a8648ce3d03010703420004cca66ebc00b4fafe11bd1cf6ddebb6ebe00156d19017f78f3d19d262a5343b6938b15ce28829ad96a95b438812fbd6e74644319dec78d71f133915a71343c046', '\x010cf1c6bfce93b9c802a77c8d96d9e844f718398c1585244a9e93caa3446b22e3db490c81e19887a75612f23546caa9348221923771911763463de5e944a49a8db3991de9552500936257ae44236a0740c712071b3ae5dc4a1b3c5cf9bf1eabe61a041943e278862003cc9229636356214a99bb6e0cd549295f69f154da055cd4e1a88a4290bebc2eb5b06ab8c74dd3f2fa16086fbcf01d3f28d32d3b96aac3aada4ea049239f', 'T3riQe8H_c1DIDZF', 1796017213674122, NULL, NULL, NULL, 'local', '[]');
INSERT INTO public.signing_keys VALUES ('aK7LN8X8oe149WnTLFxNb21FQZ2ejEgm3Z3b-8dJ8FU', 'RS256', 'prepared', '\x30820122300d06092a864886f70d01010105000382010f003082010a0282010100d6c128377183913df5f9101358da0e42770ca3bd569c4cde552988a12511f8d7aae395b2f2704a8bafdb38cee8c8bd1ac10cc76503b0c06278d45de97b945b38fc53c2242f12e0f8b1aed7b6120aa09037b26edc5e1c7e4ed3953438aaaa2df3263eb0c0ef860ad5daddccae5f0360137d0b9ee8fcd014c21d8ce8cff828c68ab3363eba2b225290ff7471d625a69f2ec9038029c8aa3ce0ae2534ad8ce6edf5730029ff97d3b494848a5ae67508427370a82179df458bd596954fabd3ae1b214008a8f13312ccbfb8794f6c9f83fc20e16fdb1db67052da365ab9eebab27bccee8dc08c2b274082b6f3c8e4574c39616f8bed4a1741dc81336954d1daabbfe50203010001', '\x017bfb5265c614a9242fef368fc421325b629ab75a8628f865afd53f6038725868f6c61a3d7c4bacb043b230876a7fd9172ec4a168dabd29c690db96ec3d996994ea4774fd92a6d838a5d9622833b78fe87911f7db74768c2f734ba870262836a13b624c5757743155fe19cbbaaa4215ea98a5bcf15af37fe2c9aebb8f518f20280b2fe3425f8ef2ded499791c28cf7ed461743cc9c1dd761cdfe09c5a3765b22ecfe648192bed098865d1631ce081f9c38449f6d220f4cb8ea2775b3f164661cc6ff4012cdd028fdbaad80f9b2f273cff33f0987d29ddbac2f866e49a4f6189d90f17b323dfd37ed8ff7823db06626efc76d3e389f93f6bda5056bcc263e7fb729d7578b59ceb9051ad3d90a6815501cdbeb3cc5c72872f1c3a16b646506606307330ed1299bde9bd7e006b89b186bb6e2163de5029a500a114afac3464e23a3cd22702bc31aa1515fe607d6d990b7eca354cc835c3d22c9f964d98fb9ce2a698744250d04b5604e460b54fc4b28cdfbe9c697e2e16fc6c6d7917f434f89b9e536ca7cb64d2c4e3d144b0beae7dde29d5134e71809d6ea5521768c9d43dac21dffb8b9b5546774eb41bbdf1032ee8ed64f21b1638db6c024ec2b49da63fa66d416133ff510a9f0dc2d51841684b6d1f3ac8880ba99d302491ba47f5df9bca53f0e15ea8ba5e034700a5e6bfd63ad91fa92be904f01847e100ff1228a06fa28f02088722a417437a8d27f6a0002a1f4a261f8f72f9e004682226628d1a47bf1eab0817ad44af2bd5cd47febe7e522384f6658b93091bfebc1d467909f9d9775aef39d725924cf6f97dbee78260f60dd37d5c793fdb55bc7ec9f81d664fbed68dcf8d5aad6d9d476edd82041d26bec7e506c5bfb18aefde9c320939e19d39c3db01f802829413f215e742c73affb40b0a13aeba56f0558e7e09fa60d059c1cbea06e4666fc7baf3402b0f81297128c71079127f1ccd53fb4c9a0931b6af94e555c23ae4062e4f03a85d8bb6d6dfb0557200765071cffa8f4123f6813656f992c006d87aa8790b73077070d5b259ac9e78d6658a89afc357de2cd9e0b4bd55408b14e84b377599941046e6c241477fe0eeeef6a602a876332a69935950e02cd52ccfce0d1b96ecc4c54caaa7f40d96e0a66c7d4a75cafe69c80cb99a9d8252c8891be4d48eb9362d590570536c8606b4d0051f0f16fd343a4c3e96949f2e4c587a98c4e87850963c2b0eab61e19fbf8081e07f15b361f3bce9c60514c6084f5b8d89ab11e04d00efa3406a9b5ccd192b929e80bb312cbba386f697574cb80bd071d93bf6d1b0be1274be1957db6ef2b54c70ff7094b8fc5f1c00fbbce3a69bbde884f056374337bf1d87796234b412952151c56c71c140c0ecff57e422e69ad04f6589ec41ecf22ede1beabd2642881b9758155b7abf86a2238170836c3fdedd631354964ba7bc11349bc6d4db9b6abcc547ec72f70f197f6858a743e8beaa7c9305176d60c838b8fff978d08d20d32c2ec16d485ee4eb013dca4e9479f62895fd832712765bb5afe651aeee66361350274e44eaaaa818301705ee13194c2f7777b35d864d31870dc060a17225dcb9000d2ef2a3a1d59871887baaed22ad7d85f5ba3f370792f79f11b30f1c82dc5256418448e4f5456c7776bb28bd4e9ddb41407c1a06cc02a914a0e31c3fe16fa89513c2f1dc466291d6bbabe8d5b8c67291b422144e6dd33e3b3b70ee1aa2228d44a4c5545030bb17ccdc01e0ca1d802a', 'T3riQe8H_c1DIDZF', 1796017213750950, NULL, NULL, NULL, 'local', '[]');
INSERT INTO public.signing_keys VALUES ('au5cpiEEbX71LWMIKjsaVmCxDYcR8yrkMoLyHGQgbgY', 'ES256', 'revoked', '\x3059301306072a8648ce3d020106082a8648ce3d0301070342000412ac7d0d73f3a3129c98055b8ec749a365a6f0ae99db28979ac7875bfe3992b273a3831ee0b0d47c4a57d12fed0ec0ee5fa294e9a9660d9bb915a711f55a3331', '\x0105934067c3ee8374199afefc8fcd147fee61ca799d931c6d9c4caba9143dd18d9aa8fd970cd8d7eb35307839f7a1340e51b792a3d1c101baa941531d8591d8f4ff88c6873c29b6fa36f9a74eb6ab593fbf0d801a431a9ca386481a2a042108a53f90e0605a97f628f936f5d016175566a314e9c4ecc5a0e6e59cd0a934749ffecb07384c61528630c83080bfe5b398ccebaba18985f4b11f199093961bcd52706cd69004217f', 'T3riQe8H_c1DIDZF', 1796017213814354, NULL, NULL, 1796017213825321, 'local', '[]');

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

