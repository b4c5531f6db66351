package validator

import (
	"math"
	"slices"
	"strings"
)

const (
	maxNumericDate = 253402300799 // the last second of the year 9999
	maxSequence    = 1<<53 - 1
	// earlyLeeway is the number of seconds by which a token may be used early, because the clock of its issuer may be
	// ahead. Expiry has no such allowance.
	earlyLeeway = 5
)

// Claims are those of a token whose signature was verified. Times are seconds since the Unix epoch.
type Claims struct {
	TokenType, KeyID, Issuer, Subject, TokenID, SessionID, ClientID string
	Audience, Scopes                                                []string
	ExpireTime, IssueTime, NotBefore                                float64
	// Revision is `rev`; -1 for a token without it.
	Revision int64
	// Bound tells whether the token is bound to a key, JKT and Certificate to which one. Both are empty for a token that
	// is bound in an unknown way.
	Bound            bool
	JKT, Certificate string
	// Payload has all claims.
	Payload map[string]any
}

// reader reads claims and remembers the first fault.
type reader struct {
	payload map[string]any
	err     error
}

func (r *reader) fail(message string) {
	if r.err == nil {
		r.err = malformed(message)
	}
}

func (r *reader) text(name string, required bool) string {
	value, present := r.payload[name]
	text, ok := value.(string)
	if (present || required) && !ok {
		r.fail(name + " is not a text")
	}
	return text
}

func (r *reader) date(name string, required bool) float64 {
	value, present := r.payload[name]
	date, ok := value.(float64)
	if (present || required) && (!ok || date < 0 || date > maxNumericDate) {
		r.fail(name + " is not a time")
	}
	return date
}

func (r *reader) audience() []string {
	switch aud := r.payload["aud"].(type) {
	case string:
		return []string{aud}
	case []any:
		texts := make([]string, 0, len(aud))
		for _, one := range aud {
			text, ok := one.(string)
			if !ok {
				r.fail("aud is not a list of texts")
			}
			texts = append(texts, text)
		}
		return texts
	}
	r.fail("aud is missing")
	return nil
}

func (r *reader) revision() int64 {
	value := r.payload["rev"]
	if value == nil {
		return -1
	}
	number, ok := value.(float64)
	if !ok || number < 0 || number > maxSequence || number != math.Trunc(number) {
		r.fail("rev is not a sequence")
	}
	return int64(number)
}

// readClaims checks the types of the claims in a payload whose signature is verified.
func readClaims(data []byte, tokenType, keyID string) (*Claims, error) {
	payload, err := parseObject(data)
	if err != nil {
		return nil, malformed("the payload is not a JSON object")
	}
	r := &reader{payload: payload}
	isTransaction := tokenType == "TRANSACTION"
	claims := &Claims{
		TokenType:  tokenType,
		KeyID:      keyID,
		Issuer:     r.text("iss", true),
		Subject:    r.text("sub", true),
		TokenID:    r.text("jti", false),
		SessionID:  r.text("sid", false),
		ClientID:   r.text("client_id", false),
		Audience:   r.audience(),
		Scopes:     strings.Split(r.text("scope", isTransaction), " "),
		ExpireTime: r.date("exp", true),
		IssueTime:  r.date("iat", true),
		NotBefore:  r.date("nbf", false),
		Revision:   r.revision(),
		Payload:    payload,
	}
	if tokenType == "ACCESS" && claims.ClientID == "" { // RFC 9068, section 2.2
		r.fail("client_id is missing")
	}
	if party := r.text("azp", false); claims.ClientID == "" {
		claims.ClientID = party
	}
	if isTransaction {
		claims.TokenID, claims.ClientID = r.text("txn", true), r.text("req_wl", true)
	}
	if tokenType != "ID" && (claims.TokenID == "" || claims.ClientID == "") {
		r.fail("the token has no id or no client")
	}
	if cnf, present := payload["cnf"]; present {
		members, _ := cnf.(map[string]any)
		claims.Bound = true
		claims.JKT, _ = members["jkt"].(string)
		claims.Certificate, _ = members["x5t#S256"].(string)
	}
	return claims, r.err
}

func (c *Claims) checkTimes(now, leeway float64) error {
	if c.ExpireTime <= now-leeway {
		return invalid("EXPIRED", "the token has expired")
	}
	if latest := now + max(leeway, earlyLeeway); c.NotBefore > latest || c.IssueTime > latest {
		return invalid("NOT_YET_VALID", "the token is not valid yet")
	}
	return nil
}

func (c *Claims) checkAudience(audience string) error {
	if audience != "" && !slices.Contains(c.Audience, audience) {
		return invalid("WRONG_AUDIENCE", "the token is for another audience")
	}
	return nil
}

func (c *Claims) checkScopes(required []string) error {
	for _, scope := range required {
		if !slices.Contains(c.Scopes, scope) {
			return invalid("INSUFFICIENT_SCOPE", "the token lacks a required scope")
		}
	}
	return nil
}
