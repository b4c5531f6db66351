package validator

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

const (
	maxProofBytes = 8 * 1024
	maxProofID    = 256
	// maxProofAge is the number of seconds for which a proof is accepted after its `iat`; proofLeeway is the number by
	// which `iat` may be ahead.
	maxProofAge   = 60.0
	proofLeeway   = 10.0
	maxRemembered = 500_000
)

// Presented is what a request presents besides its token.
type Presented struct {
	// Scheme is Bearer or DPoP.
	Scheme string
	// Proof is the header DPoP; nil: the request has none.
	Proof       *string
	Method, URI string
	// Certificate is the SHA-256 thumbprint of the client certificate, base64url; empty: the connection has none.
	Certificate string
}

// Possession checks that the sender of a token has the key that the token is bound to: DPoP (RFC 9449) and certificates of
// mutual TLS (RFC 8705). It remembers the proofs that it accepted. Any goroutine may call it.
type Possession struct {
	Clock Clock

	mu         sync.Mutex
	young, old map[[32]byte]struct{}
	turnAt     float64
}

func missing(what string) error {
	return invalid("PROOF_MISSING", "the token is bound to "+what)
}

func badProof(what string) error { return invalid("PROOF_INVALID", "DPoP proof: "+what) }

// Check returns an *InvalidTokenError unless the request proves the key of its token.
func (p *Possession) Check(claims *Claims, token string, presented Presented) error {
	if claims.Bound && claims.JKT == "" && claims.Certificate == "" {
		return missing("a key in a way that can't be checked here")
	}
	if presented.Scheme == "DPoP" && claims.JKT == "" {
		return invalid("WRONG_TYPE", "the token is not bound to a DPoP key; present it with the scheme Bearer")
	}
	if claims.Certificate != "" {
		if presented.Certificate == "" {
			return missing("a client certificate: present it over mutual TLS (RFC 8705, section 3)")
		}
		if presented.Certificate != claims.Certificate {
			return invalid("WRONG_KEY", "the client certificate is another one than the token is bound to")
		}
	}
	if claims.JKT == "" {
		return nil
	}
	if presented.Scheme != "DPoP" || presented.Proof == nil {
		return missing("a DPoP key: present it with the scheme DPoP and a DPoP proof")
	}
	jkt, id, issueTime, err := verifyProof(*presented.Proof, token, presented)
	if err != nil {
		return err
	}
	if jkt != claims.JKT {
		return invalid("WRONG_KEY", "the DPoP proof is of another key than the token is bound to")
	}
	now := p.Clock.Now()
	if issueTime < now-maxProofAge-proofLeeway || issueTime > now+proofLeeway {
		return badProof("iat is too long ago or ahead")
	}
	return p.use(jkt + id)
}

// use remembers a proof for as long as its `iat` would admit it.
func (p *Possession) use(id string) error {
	const window = maxProofAge + 2*proofLeeway
	p.mu.Lock()
	defer p.mu.Unlock()
	if elapsed := p.Clock.Elapsed(); p.young == nil || elapsed >= p.turnAt {
		p.old = p.young
		if p.young == nil || elapsed >= p.turnAt+window {
			p.old = nil
		}
		p.young, p.turnAt = make(map[[32]byte]struct{}), elapsed+window
	}
	digest := sha256.Sum256([]byte(id))
	_, inYoung := p.young[digest]
	_, inOld := p.old[digest]
	if inYoung || inOld {
		return badProof("jti was used before")
	}
	if len(p.young)+len(p.old) >= maxRemembered { // to forget a proof would admit its repetition
		return ErrStale
	}
	p.young[digest] = struct{}{}
	return nil
}

// verifyProof verifies a proof for a request (RFC 9449, section 4.3), without the age and the repetition of `jti`.
func verifyProof(proof, token string, presented Presented) (jkt, id string, issueTime float64, err error) {
	fail := func(what string) (string, string, float64, error) { return "", "", 0, badProof(what) }
	if len(proof) > maxProofBytes {
		return fail("too long")
	}
	parts := strings.Split(proof, ".")
	if len(parts) != 3 {
		return fail("not a JWS in compact form")
	}
	header, errHeader := decodeObject(parts[0])
	claims, errClaims := decodeObject(parts[1])
	signature, errSignature := decodeBase64url(parts[2])
	if errHeader != nil || errClaims != nil || errSignature != nil {
		return fail("not a JWS of JSON objects")
	}
	used, jkt, err := proofKey(header)
	if err != nil {
		return fail(err.Error())
	}
	if !used.verify(signature, []byte(parts[0]+"."+parts[1])) {
		return fail("the signature does not verify")
	}
	id, _ = claims["jti"].(string)
	issueTime, isTime := claims["iat"].(float64)
	_, isText := claims["nonce"].(string)
	uri, _ := claims["htu"].(string)
	hash, _ := claims["ath"].(string)
	digest := sha256.Sum256([]byte(token))
	switch {
	case id == "" || utf8.RuneCountInString(id) > maxProofID:
		return fail("jti is missing or too long")
	case !isTime || issueTime < 0 || issueTime > maxNumericDate:
		return fail("iat is missing or no time")
	case claims["nonce"] != nil && !isText:
		return fail("nonce is not a text")
	case claims["htm"] != presented.Method:
		return fail("htm is not the method of the request")
	case normalized(uri) == "" || normalized(uri) != normalized(presented.URI):
		return fail("htu is not the URI of the request")
	case subtle.ConstantTimeCompare([]byte(hash), []byte(base64url.EncodeToString(digest[:]))) != 1:
		return fail("ath is not the hash of the access token")
	}
	return jkt, id, issueTime, nil
}

func decodeObject(text string) (map[string]any, error) {
	data, err := decodeBase64url(text)
	if err != nil {
		return nil, err
	}
	return parseObject(data)
}

// proofKey returns the key in the header of a proof, and its thumbprint (RFC 7638).
func proofKey(header map[string]any) (key, string, error) {
	for name := range header {
		if !slices.Contains([]string{"typ", "alg", "jwk"}, name) {
			return key{}, "", fmt.Errorf("the header has members other than typ, alg and jwk")
		}
	}
	typ, _ := header["typ"].(string)
	if strings.TrimPrefix(strings.ToLower(typ), "application/") != "dpop+jwt" {
		return key{}, "", fmt.Errorf("typ is not dpop+jwt")
	}
	jwk, _ := header["jwk"].(map[string]any)
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, present := jwk[private]; present {
			return key{}, "", fmt.Errorf("jwk has private members")
		}
	}
	text := func(name string) string { value, _ := jwk[name].(string); return value }
	public := JWK{Kty: text("kty"), Use: text("use"), Alg: text("alg"), N: text("n"), E: text("e"), Crv: text("crv"), X: text("x"), Y: text("y")}
	used, err := importKey(public)
	if err != nil || used.algorithm != header["alg"] {
		return key{}, "", fmt.Errorf("jwk is not a usable public key for alg")
	}
	var members string // all values are base64url or fixed names, so none needs an escape
	switch public.Kty {
	case "RSA":
		members = fmt.Sprintf(`{"e":"%s","kty":"RSA","n":"%s"}`, public.E, public.N)
	case "EC":
		members = fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, public.X, public.Y)
	default:
		members = fmt.Sprintf(`{"crv":"Ed25519","kty":"OKP","x":"%s"}`, public.X)
	}
	digest := sha256.Sum256([]byte(members))
	return used, base64.RawURLEncoding.EncodeToString(digest[:]), nil
}

var (
	httpURI    = regexp.MustCompile(`^(?i:https?)://[^/?#][!-~]*$`)
	percent    = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
	unreserved = regexp.MustCompile(`^[A-Za-z0-9._~-]$`)
)

// normalized returns an http or https URI without query and fragment, normalized by syntax and scheme (RFC 3986, section
// 6.2); empty for any other text.
func normalized(uri string) string {
	parsed, err := url.Parse(uri)
	if err != nil || !httpURI.MatchString(uri) || strings.Contains(uri, `\`) || parsed.User != nil || parsed.Hostname() == "" {
		return ""
	}
	host := strings.ToLower(parsed.Host)
	for scheme, port := range map[string]string{"http": ":80", "https": ":443"} {
		if strings.EqualFold(parsed.Scheme, scheme) {
			host = strings.TrimSuffix(host, port)
		}
	}
	path := percent.ReplaceAllStringFunc(parsed.EscapedPath(), func(escape string) string {
		if character, _ := url.PathUnescape(escape); unreserved.MatchString(character) {
			return character
		}
		return strings.ToUpper(escape)
	})
	return strings.ToLower(parsed.Scheme) + "://" + host + withoutDots(path)
}

// withoutDots returns a path without dot segments (RFC 3986, section 5.2.4).
func withoutDots(path string) string {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	var kept []string
	for i, segment := range segments {
		isDots := segment == "." || segment == ".."
		if segment == ".." && len(kept) > 0 {
			kept = kept[:len(kept)-1]
		}
		if !isDots {
			kept = append(kept, segment)
		} else if i == len(segments)-1 {
			kept = append(kept, "")
		}
	}
	return "/" + strings.Join(kept, "/")
}
