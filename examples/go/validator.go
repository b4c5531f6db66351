package validator

import (
	"errors"
	"sync"
	"time"
)

const cacheCapacity = 10_000

// Config configures a Validator. Times are in seconds.
type Config struct {
	// Issuer is `iss` of the tokens, compared exactly.
	Issuer string
	// Audience is the audience that `aud` must contain. Empty: any.
	Audience string
	// Bound is S: a token whose revocation was acknowledged at t is not accepted after t + S. 0: 5 s.
	Bound float64
	// Leeway is the difference between clocks to allow at `exp`, `nbf` and `iat`.
	Leeway float64
	// TokenTypes are the accepted kinds: ACCESS, ID, TRANSACTION. Empty: ACCESS.
	TokenTypes []string
	// Clock replaces the clocks of the machine.
	Clock Clock
}

// Validator judges tokens. Any goroutine may call it. A Follower feeds it.
type Validator struct {
	config Config

	// A verdict reads the set and the freshness under this lock, so the freshness belongs to the set that was searched.
	mu       sync.RWMutex
	replica  *replica
	verified map[string]*Claims // belongs to one generation of the keys
}

// New makes a validator. It accepts no token until a Follower has fed it.
func New(config Config) (*Validator, error) {
	if config.Issuer == "" {
		return nil, errors.New("Config.Issuer is empty: set it to the `iss` of the tokens")
	}
	if config.Bound == 0 {
		config.Bound = 5
	}
	if config.Bound < 0.2 || config.Bound > 3600 || config.Leeway < 0 || config.Leeway > 300 {
		return nil, errors.New("Config.Bound must be between 0.2 and 3600 s, and Config.Leeway between 0 and 300 s")
	}
	if len(config.TokenTypes) == 0 {
		config.TokenTypes = []string{"ACCESS"}
	}
	if config.Clock == nil {
		config.Clock = machineClock{time.Now()}
	}
	return &Validator{
		config:   config,
		replica:  newReplica(config.Issuer, config.Bound, config.Clock),
		verified: make(map[string]*Claims),
	}, nil
}

// Validate returns the claims of a valid token. The error is an *InvalidTokenError or ErrStale.
//
// It does not check the proof of a bound token: see Possession.
func (v *Validator) Validate(token string, requiredScopes ...string) (*Claims, error) {
	return v.ValidateFor(token, v.config.Audience, requiredScopes...)
}

// ValidateFor is Validate for another audience.
func (v *Validator) ValidateFor(token, audience string, requiredScopes ...string) (*Claims, error) {
	claims, err := v.verify(token)
	if err != nil {
		return nil, err
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	if err := claims.checkTimes(v.config.Clock.Now(), v.config.Leeway); err != nil {
		return nil, err
	}
	if err := claims.checkAudience(audience); err != nil {
		return nil, err
	}
	if v.replica.revocations.revokes(claims) {
		return nil, invalid("REVOKED", "the token was revoked")
	}
	// The process may have been stopped before the look-up. By now the token may have expired and its entry may be
	// forgotten, or the freshness may have ended: read the clocks last.
	if err := claims.checkTimes(v.config.Clock.Now(), v.config.Leeway); err != nil {
		return nil, err
	}
	if err := claims.checkScopes(requiredScopes); err != nil {
		return nil, err
	}
	if !v.replica.isFresh() {
		return nil, ErrStale
	}
	return claims, nil
}

// IsReady tells whether the validator can judge tokens now.
func (v *Validator) IsReady() bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.replica.keys) > 0 && v.replica.isFresh()
}

// verify verifies a token with the current keys, once for each token.
func (v *Validator) verify(token string) (*Claims, error) {
	for {
		v.mu.RLock()
		claims, keys, generation := v.verified[token], v.replica.keys, v.replica.generation
		v.mu.RUnlock()
		if claims != nil {
			return claims, nil
		}
		claims, err := verify(token, v.config.Issuer, v.config.TokenTypes, keys)
		var refused *InvalidTokenError
		if errors.As(err, &refused) && refused.Reason == "UNKNOWN_KEY" && len(keys) == 0 {
			return nil, ErrStale
		}
		if err != nil {
			return nil, err
		}
		v.mu.Lock()
		if generation == v.replica.generation { // otherwise the keys changed meanwhile
			if len(v.verified) >= cacheCapacity {
				clear(v.verified)
			}
			v.verified[token] = claims
			v.mu.Unlock()
			return claims, nil
		}
		v.mu.Unlock()
	}
}

// update lets the follower change the replica.
func (v *Validator) update(change func(*replica) error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	generation := v.replica.generation
	err := change(v.replica)
	if generation != v.replica.generation {
		clear(v.verified)
	}
	return err
}

type machineClock struct{ start time.Time }

func (machineClock) Now() float64 { return float64(time.Now().UnixNano()) / 1e9 }

// Elapsed uses the monotonic clock, which `Sub` compares.
func (c machineClock) Elapsed() float64 { return time.Since(c.start).Seconds() }
