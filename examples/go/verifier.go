package validator

import (
	"fmt"
	"slices"
	"strings"
)

const maxTokenBytes = 16 * 1024

// A token is refused if its header carries a key or a critical extension (RFC 8725, section 3.10; RFC 7515, section
// 4.1.11), or another encoding of the payload (RFC 7797, RFC 7516).
var refusedHeaders = []string{"crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc"}

var tokenTypes = map[string]string{"at+jwt": "ACCESS", "jwt": "ID", "txntoken+jwt": "TRANSACTION"}

// verify makes the checks that are needed once for each token: form, header, signature, issuer.
func verify(token, issuer string, accepted []string, keys map[string]key) (*Claims, error) {
	if len(token) > maxTokenBytes {
		return nil, invalid("TOO_LARGE", fmt.Sprintf("longer than %d bytes", maxTokenBytes))
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || parts[1] == "" {
		return nil, malformed("not a JWS in compact form")
	}
	signature, err := decodeBase64url(parts[2])
	if err != nil {
		return nil, malformed("the signature is not base64url")
	}
	tokenType, keyID, verified, err := readHeader(parts[0], accepted, keys)
	if err != nil {
		return nil, err
	}
	if !verified.verify(signature, []byte(token[:strings.LastIndexByte(token, '.')])) {
		return nil, invalid("BAD_SIGNATURE", "the signature does not verify")
	}
	payload, err := decodeBase64url(parts[1])
	if err != nil {
		return nil, malformed("the payload is not base64url")
	}
	claims, err := readClaims(payload, tokenType, keyID)
	if err != nil {
		return nil, err
	}
	if claims.Issuer != issuer {
		return nil, invalid("WRONG_ISSUER", "the token is from another issuer")
	}
	if _, sealed := claims.Payload["sealed_sub"]; sealed && tokenType == "ID" {
		// A revocation names the subject itself, so only the service can tell whether it revokes the token.
		return nil, invalid("WRONG_TYPE", "an ID token with a pairwise subject needs ValidateToken")
	}
	return claims, nil
}

func readHeader(text string, accepted []string, keys map[string]key) (string, string, key, error) {
	data, err := decodeBase64url(text)
	if err != nil {
		return "", "", key{}, malformed("the header is not base64url")
	}
	header, err := parseObject(data)
	if err != nil {
		return "", "", key{}, malformed("the header is not a JSON object")
	}
	for _, name := range refusedHeaders {
		if _, present := header[name]; present {
			return "", "", key{}, malformed("the header has " + name)
		}
	}
	typ, _ := header["typ"].(string)
	tokenType := tokenTypes[strings.TrimPrefix(strings.ToLower(typ), "application/")]
	if !slices.Contains(accepted, tokenType) {
		return "", "", key{}, invalid("WRONG_TYPE", "typ is none of the expected ones")
	}
	keyID, okID := header["kid"].(string)
	algorithm, okAlgorithm := header["alg"].(string)
	if !okID || !okAlgorithm {
		return "", "", key{}, malformed("the header lacks alg or kid")
	}
	known, present := keys[keyID]
	if !present {
		return "", "", key{}, invalid("UNKNOWN_KEY", "no key with this kid")
	}
	if known.algorithm != algorithm {
		return "", "", key{}, invalid("BAD_SIGNATURE", "the key is not for this algorithm")
	}
	return tokenType, keyID, known, nil
}
