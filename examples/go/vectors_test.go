package validator

import (
	"encoding/base64"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

const directory = "../../tests/vectors/validation/"

type manualClock struct{ start, at, wall float64 }

func (c *manualClock) Now() float64     { return c.start + c.wall }
func (c *manualClock) Elapsed() float64 { return 1000 + c.at }

func read(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(directory + name)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func verdictOf(err error) string {
	var refused *InvalidTokenError
	switch {
	case err == nil:
		return "ACTIVE"
	case errors.As(err, &refused):
		return refused.Reason
	case errors.Is(err, ErrStale):
		return "STALE"
	}
	return err.Error()
}

// The JSON form of Protocol Buffers.

type jsonKeySet struct {
	Revision string `json:"revision"`
	Issuer   string `json:"issuer"`
	Keys     []struct {
		Kty string `json:"kty"`
		Kid string `json:"kid"`
		Use string `json:"use"`
		Alg string `json:"alg"`
		N   string `json:"n"`
		E   string `json:"e"`
		Crv string `json:"crv"`
		X   string `json:"x"`
		Y   string `json:"y"`
	} `json:"keys"`
}

type jsonMessage struct {
	Reset       bool             `json:"reset"`
	CaughtUp    bool             `json:"caught_up"`
	Cursor      string           `json:"cursor"`
	KeySet      *jsonKeySet      `json:"key_set"`
	Revocations []map[string]any `json:"revocations"`
	Blocks      []struct {
		Target       string `json:"target"`
		Bucket       string `json:"bucket"`
		Fingerprints string `json:"fingerprints"`
		ExpireTime   string `json:"expire_time"`
	} `json:"snapshot_blocks"`
}

func integer(text string) int64 {
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic(err)
	}
	return value
}

func seconds(value any) float64 {
	moment, err := time.Parse(time.RFC3339Nano, value.(string))
	if err != nil {
		panic(err)
	}
	return float64(moment.UnixNano()) / 1e9
}

func (k *jsonKeySet) convert() *KeySet {
	if k == nil {
		return nil
	}
	set := &KeySet{Revision: integer(k.Revision), Issuer: k.Issuer}
	for _, one := range k.Keys {
		set.Keys = append(set.Keys, JWK{one.Kty, one.Kid, one.Use, one.Alg, one.N, one.E, one.Crv, one.X, one.Y})
	}
	return set
}

func (m *jsonMessage) convert() *Message {
	made := &Message{Reset: m.Reset, CaughtUp: m.CaughtUp, Cursor: m.Cursor, KeySet: m.KeySet.convert()}
	for _, one := range m.Revocations {
		entry := Revocation{
			Sequence:   integer(one["sequence"].(string)),
			RevokeTime: seconds(one["revoke_time"]),
			ExpireTime: seconds(one["expire_time"]),
		}
		for _, target := range []string{"token_id", "session_id", "subject", "client_id", "key_id", "everything"} {
			if value, present := one[target]; present {
				entry.Target = target
				entry.Value, _ = value.(string)
			}
		}
		if value, present := one["token_expire_time"]; present {
			expiry := seconds(value)
			entry.TokenExpireTime = &expiry
		}
		made.Revocations = append(made.Revocations, entry)
	}
	for _, one := range m.Blocks {
		packed, err := base64.StdEncoding.DecodeString(one.Fingerprints)
		if err != nil {
			panic(err)
		}
		made.Blocks = append(made.Blocks, Block{one.Target, integer(one.Bucket), packed, seconds(one.ExpireTime)})
	}
	return made
}

// begin gives a validator the keys and an empty set of revocations, and proves its freshness.
func begin(t *testing.T, v *Validator, keys *KeySet) {
	t.Helper()
	const at = "log-1-of-vectors:0"
	if err := v.replica.receive(&Message{Reset: true, KeySet: keys, Cursor: at}); err != nil {
		t.Fatal(err)
	}
	if err := v.replica.answer(v.replica.beginProbe(), at); err != nil {
		t.Fatal(err)
	}
}

func newValidator(t *testing.T, config Config) *Validator {
	t.Helper()
	v, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

type tokenCase struct {
	Name           string   `json:"name"`
	Token          string   `json:"token"`
	Now            float64  `json:"now"`
	Leeway         float64  `json:"leeway"`
	Audience       *string  `json:"audience"`
	RequiredScopes []string `json:"required_scopes"`
	TokenTypes     []string `json:"token_types"`
	Verdict        string   `json:"verdict"`
	Claims         *struct {
		TokenType string   `json:"token_type"`
		TokenID   string   `json:"token_id"`
		SessionID string   `json:"session_id"`
		Subject   string   `json:"subject"`
		ClientID  string   `json:"client_id"`
		Audience  []string `json:"audience"`
		Scopes    []string `json:"scopes"`
	} `json:"expect_claims"`
}

func TestTokens(t *testing.T) {
	var file struct {
		Issuer   string           `json:"issuer"`
		KeySet   *jsonKeySet      `json:"key_set"`
		Defaults jsontext.Value   `json:"defaults"`
		Cases    []jsontext.Value `json:"cases"`
	}
	read(t, "tokens.json", &file)
	for _, raw := range file.Cases {
		var one tokenCase
		if err := errors.Join(json.Unmarshal(file.Defaults, &one), json.Unmarshal(raw, &one)); err != nil {
			t.Fatal(err)
		}
		t.Run(one.Name, func(t *testing.T) {
			audience := ""
			if one.Audience != nil {
				audience = *one.Audience
			}
			v := newValidator(t, Config{
				Issuer:     file.Issuer,
				Audience:   audience,
				Leeway:     one.Leeway,
				TokenTypes: one.TokenTypes,
				Clock:      &manualClock{start: one.Now},
			})
			begin(t, v, file.KeySet.convert())
			claims, err := v.Validate(one.Token, one.RequiredScopes...)
			if verdict := verdictOf(err); verdict != one.Verdict {
				t.Fatalf("%s, not %s: %v", verdict, one.Verdict, err)
			}
			if wanted := one.Claims; wanted != nil {
				scopes := slices.Sorted(slices.Values(claims.Scopes))
				if slices.Equal(scopes, []string{""}) {
					scopes = nil
				}
				found := []any{claims.TokenType, claims.TokenID, claims.SessionID, claims.Subject, claims.ClientID}
				expected := []any{wanted.TokenType, wanted.TokenID, wanted.SessionID, wanted.Subject, wanted.ClientID}
				if !slices.Equal(found, expected) || !slices.Equal(claims.Audience, wanted.Audience) || !slices.Equal(scopes, wanted.Scopes) {
					t.Fatalf("%+v, not %+v", claims, wanted)
				}
			}
		})
	}
}

type step struct {
	At                  float64      `json:"at"`
	Wall                *float64     `json:"wall"`
	Do                  string       `json:"do"`
	Probe               string       `json:"probe"`
	HeadCursor          string       `json:"head_cursor"`
	ExpectCursor        string       `json:"expect_cursor"`
	ExpectAppliedCursor string       `json:"expect_applied_cursor"`
	ExpectError         bool         `json:"expect_error"`
	Message             *jsonMessage `json:"message"`
	Token               string       `json:"token"`
	Audience            *string      `json:"audience"`
	RequiredScopes      []string     `json:"required_scopes"`
	Verdict             string       `json:"verdict"`
}

func TestScenarios(t *testing.T) {
	var file struct {
		Issuer    string            `json:"issuer"`
		Audience  string            `json:"audience"`
		Start     float64           `json:"start"`
		Bound     float64           `json:"bound"`
		Tokens    map[string]string `json:"tokens"`
		Scenarios []struct {
			Name  string `json:"name"`
			Steps []step `json:"steps"`
		} `json:"scenarios"`
	}
	read(t, "scenarios.json", &file)
	for _, scenario := range file.Scenarios {
		t.Run(scenario.Name, func(t *testing.T) {
			clock := &manualClock{start: file.Start}
			v := newValidator(t, Config{Issuer: file.Issuer, Audience: file.Audience, Bound: file.Bound, Clock: clock})
			probes := make(map[string]probe)
			for number, one := range scenario.Steps {
				clock.at, clock.wall = one.At, one.At
				if one.Wall != nil {
					clock.wall = *one.Wall
				}
				if problem := run(v, one, file.Tokens, file.Audience, probes); problem != "" {
					t.Fatalf("step %d at %v s: %s", number, one.At, problem)
				}
			}
		})
	}
}

// run does one step and returns what is wrong.
func run(v *Validator, one step, tokens map[string]string, audience string, probes map[string]probe) string {
	switch one.Do {
	case "connect":
		if found := v.replica.connect(); found != one.ExpectCursor {
			return "the cursor is " + found
		}
	case "receive":
		err := v.update(func(r *replica) error { return r.receive(one.Message.convert()) })
		if (err != nil) != one.ExpectError {
			return "the message gave " + verdictOf(err)
		}
		if err != nil {
			v.replica.distrust()
		}
	case "probe":
		started := v.replica.beginProbe()
		if started.at.text != one.ExpectAppliedCursor {
			return "the applied cursor is " + started.at.text
		}
		probes[one.Probe] = started
	case "answer":
		if err := v.replica.answer(probes[one.Probe], one.HeadCursor); err != nil {
			return err.Error()
		}
	case "sweep":
		v.replica.sweep()
	case "check":
		if one.Audience != nil {
			audience = *one.Audience
		}
		_, err := v.ValidateFor(tokens[one.Token], audience, one.RequiredScopes...)
		if found := verdictOf(err); found != one.Verdict {
			return "the token " + one.Token + " is " + found + ", not " + one.Verdict
		}
	default:
		return "an unknown step"
	}
	return ""
}

func TestProofs(t *testing.T) {
	var file struct {
		Issuer   string      `json:"issuer"`
		Audience string      `json:"audience"`
		Start    float64     `json:"start"`
		KeySet   *jsonKeySet `json:"key_set"`
		Cases    []struct {
			Name     string `json:"name"`
			Token    string `json:"token"`
			Requests []struct {
				At          float64 `json:"at"`
				Scheme      string  `json:"scheme"`
				Proof       *string `json:"dpop_proof"`
				Method      string  `json:"method"`
				URI         string  `json:"uri"`
				Certificate string  `json:"certificate_thumbprint"`
				Verdict     string  `json:"verdict"`
			} `json:"requests"`
		} `json:"cases"`
	}
	read(t, "proofs.json", &file)
	for _, one := range file.Cases {
		t.Run(one.Name, func(t *testing.T) {
			clock := &manualClock{start: file.Start}
			v := newValidator(t, Config{Issuer: file.Issuer, Audience: file.Audience, Clock: clock})
			begin(t, v, file.KeySet.convert())
			claims, err := v.Validate(one.Token)
			if err != nil {
				t.Fatal(err)
			}
			possession := &Possession{Clock: clock}
			for _, request := range one.Requests {
				clock.at, clock.wall = request.At, request.At
				err := possession.Check(claims, one.Token, Presented{request.Scheme, request.Proof, request.Method, request.URI, request.Certificate})
				if verdict := verdictOf(err); verdict != request.Verdict {
					t.Fatalf("%s, not %s, at %v s: %v", verdict, request.Verdict, request.At, err)
				}
			}
		})
	}
}
