package validator

import (
	"bytes"
	"crypto/sha256"
	"math"
	"sort"
)

const (
	tokenBucketSeconds   = 64
	sessionBucketSeconds = 1024
	unknownExpiry        = 0
	fingerprintBytes     = 8
)

type fingerprint [fingerprintBytes]byte

func fingerprintOf(id string) fingerprint {
	digest := sha256.Sum256([]byte(id))
	return fingerprint(digest[:fingerprintBytes])
}

// bucket has the fingerprints of ids: packed blocks of a snapshot, which take 8 bytes each, and a few that came later.
type bucket struct {
	blocks     [][]byte
	later      map[fingerprint]struct{}
	expireTime float64
}

func (b *bucket) has(mark fingerprint) bool {
	if _, found := b.later[mark]; found {
		return true
	}
	for _, block := range b.blocks {
		at := func(i int) []byte { return block[i*fingerprintBytes : (i+1)*fingerprintBytes] }
		count := len(block) / fingerprintBytes
		i := sort.Search(count, func(i int) bool { return bytes.Compare(at(i), mark[:]) >= 0 })
		if i < count && bytes.Equal(at(i), mark[:]) {
			return true
		}
	}
	return false
}

type buckets map[int64]*bucket

func (b buckets) at(number int64, expireTime float64) *bucket {
	if b[number] == nil {
		b[number] = &bucket{later: make(map[fingerprint]struct{})}
	}
	b[number].expireTime = max(b[number].expireTime, expireTime)
	return b[number]
}

func (b buckets) has(mark fingerprint) bool {
	for _, one := range b {
		if one.has(mark) {
			return true
		}
	}
	return false
}

func (b buckets) dropExpired(now float64) {
	for number, one := range b {
		if one.expireTime <= now {
			delete(b, number)
		}
	}
}

// floor is the place and the time below which the tokens of a subject or client are revoked.
type floor struct {
	sequence               int64
	revokeTime, expireTime float64
}

type floors map[string]floor

// raise joins an entry with the known one. Sequence and times are joined separately, because clocks need not follow the
// sequence.
func (f floors) raise(name string, entry floor) {
	known := f[name]
	f[name] = floor{
		max(known.sequence, entry.sequence),
		max(known.revokeTime, entry.revokeTime),
		max(known.expireTime, entry.expireTime),
	}
}

func (f floors) hit(name string, claims *Claims) bool {
	found, present := f[name]
	if !present {
		return false
	}
	if claims.Revision >= 0 {
		return claims.Revision < found.sequence
	}
	return claims.IssueTime <= found.revokeTime
}

func (f floors) dropExpired(now float64) {
	for name, one := range f {
		if one.expireTime <= now {
			delete(f, name)
		}
	}
}

// revocationSet has the live revocations. "What an entry revokes" and "Snapshot blocks" in protos/README.md define the
// rules.
type revocationSet struct {
	tokens, unknown, sessions           buckets
	subjects, clients, keys, everything floors
}

func newRevocationSet() *revocationSet {
	return &revocationSet{buckets{}, buckets{}, buckets{}, floors{}, floors{}, floors{}, floors{}}
}

func bucketOf(seconds float64, size int64) int64 { return int64(math.Floor(seconds / float64(size))) }

func (s *revocationSet) apply(entry Revocation) {
	expiry := entry.ExpireTime
	low := floor{entry.Sequence, entry.RevokeTime, expiry}
	switch entry.Target {
	case "token_id":
		of := s.unknown.at(bucketOf(expiry, sessionBucketSeconds), expiry)
		if entry.TokenExpireTime != nil {
			of = s.tokens.at(bucketOf(*entry.TokenExpireTime, tokenBucketSeconds), expiry)
		}
		of.later[fingerprintOf(entry.Value)] = struct{}{}
	case "session_id":
		s.sessions.at(bucketOf(expiry, sessionBucketSeconds), expiry).later[fingerprintOf(entry.Value)] = struct{}{}
	case "subject":
		s.subjects.raise(entry.Value, low)
	case "client_id":
		s.clients.raise(entry.Value, low)
	case "key_id":
		s.keys.raise(entry.Value, low)
	default:
		s.everything.raise("", low)
	}
}

func (s *revocationSet) load(block Block) error {
	packed := block.Fingerprints
	if len(packed)%fingerprintBytes != 0 {
		return errProtocol
	}
	for at := fingerprintBytes; at < len(packed); at += fingerprintBytes {
		if bytes.Compare(packed[at-fingerprintBytes:at], packed[at:at+fingerprintBytes]) > 0 {
			return errProtocol
		}
	}
	of := s.sessions
	number := block.Bucket
	switch {
	case block.Target == "BLOCK_TARGET_TOKEN_ID" && number == unknownExpiry:
		of, number = s.unknown, bucketOf(block.ExpireTime, sessionBucketSeconds)
	case block.Target == "BLOCK_TARGET_TOKEN_ID":
		of = s.tokens
	case block.Target != "BLOCK_TARGET_SESSION_ID":
		return errProtocol
	}
	one := of.at(number, block.ExpireTime)
	one.blocks = append(one.blocks, packed)
	return nil
}

func (s *revocationSet) revokes(claims *Claims) bool {
	mark := fingerprintOf(claims.TokenID)
	if ids := s.tokens[bucketOf(claims.ExpireTime, tokenBucketSeconds)]; ids != nil && ids.has(mark) {
		return true
	}
	_, keyRevoked := s.keys[claims.KeyID]
	return s.unknown.has(mark) ||
		claims.SessionID != "" && s.sessions.has(fingerprintOf(claims.SessionID)) ||
		keyRevoked ||
		s.subjects.hit(claims.Subject, claims) ||
		s.clients.hit(claims.ClientID, claims) ||
		s.everything.hit("", claims)
}

func (s *revocationSet) dropExpired(now float64) {
	for _, of := range []buckets{s.tokens, s.unknown, s.sessions} {
		of.dropExpired(now)
	}
	for _, of := range []floors{s.subjects, s.clients, s.keys, s.everything} {
		of.dropExpired(now)
	}
}
