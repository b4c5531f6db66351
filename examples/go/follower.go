package validator

import (
	"context"
	"crypto/tls"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	probesPerBound = 3 // so that one may be lost
	probeTimeout   = 1.5
	shortestGap    = 0.02
	sweepInterval  = 5.0
	// stallTimeout is the silence after which a stream that is behind a known head is replaced.
	stallTimeout = 10.0
	// keyRefreshInterval is the shortest interval between requests for the key set that an unknown kid causes.
	keyRefreshInterval = 5.0
	initialDelay       = 0.2
	longestDelay       = 10.0
)

// Follower follows StreamRevocations for a Validator, and proves freshness by ConfirmRevocations.
type Follower struct {
	validator    *Validator
	connection   *connection
	subscriberID string
	stop         context.CancelFunc
	done         sync.WaitGroup
	wake         chan struct{} // ends a pause of the probes
	cameBack     chan struct{} // ends a pause before the next stream

	mu        sync.Mutex
	endStream context.CancelFunc
	streams   int
	lastError error

	asking   sync.Mutex // held while the service is asked for its keys
	askedAt  float64
	answered bool
}

// Follow starts following the service at `host:port` and returns at once. Without a configuration of TLS the connection is
// in plain text, for a service on this machine. subscriberID is a unique name of the validator, the same after a restart.
func Follow(validator *Validator, target string, config *tls.Config, subscriberID string) *Follower {
	ctx, stop := context.WithCancel(context.Background())
	f := &Follower{
		validator:    validator,
		connection:   connect(target, config),
		subscriberID: subscriberID,
		stop:         stop,
		wake:         make(chan struct{}, 1),
		cameBack:     make(chan struct{}, 1),
		endStream:    func() {},
		askedAt:      math.Inf(-1),
	}
	f.done.Go(func() { f.follow(ctx) })
	f.done.Go(func() { f.prove(ctx) })
	return f
}

// Close ends all calls, and returns when they have ended.
func (f *Follower) Close() {
	f.stop()
	f.done.Wait()
	f.connection.client.CloseIdleConnections()
}

// Status is the state of a follower, for operators. LastError is nil while the service answers.
type Status struct {
	Cursor          string
	Streams, Resets int
	LastError       error
}

// Status returns the state.
func (f *Follower) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	status := Status{Streams: f.streams, LastError: f.lastError}
	f.validator.update(func(r *replica) error {
		status.Cursor, status.Resets = r.at.text, r.resets
		return nil
	})
	return status
}

// Validate is Validator.Validate, but asks the service for its keys if the kid of the token is unknown.
func (f *Follower) Validate(ctx context.Context, token string, requiredScopes ...string) (*Claims, error) {
	claims, err := f.validator.Validate(token, requiredScopes...)
	var refused *InvalidTokenError
	if !errors.As(err, &refused) || refused.Reason != "UNKNOWN_KEY" {
		return claims, err
	}
	if !f.refreshKeys(ctx) {
		return nil, ErrStale
	}
	return f.validator.Validate(token, requiredScopes...)
}

// refreshKeys asks for the key set, unless it did so recently. It returns whether the service answered the last request.
func (f *Follower) refreshKeys(ctx context.Context) bool {
	f.asking.Lock() // others wait for the same answer
	defer f.asking.Unlock()
	if now := f.validator.config.Clock.Elapsed(); now-f.askedAt >= keyRefreshInterval {
		f.askedAt = now
		f.answered = f.askForKeys(ctx) == nil
	}
	return f.answered
}

func (f *Follower) askForKeys(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, seconds64(probeTimeout))
	defer cancel()
	answer, err := f.connection.call(ctx, "KeyService/GetKeySet", nil)
	if err != nil {
		return err
	}
	set, err := decodeKeySetResponse(answer)
	if err != nil {
		return err
	}
	return f.validator.update(func(r *replica) error { r.takeKeySet(set); return nil })
}

// follow reads one stream after the other.
func (f *Follower) follow(ctx context.Context) {
	for attempt := 0; ctx.Err() == nil; {
		if f.readStream(ctx) {
			attempt = 0
		} else {
			attempt++
		}
		drain(f.cameBack)
		if pause(ctx, delay(attempt), f.cameBack) {
			attempt = 0 // the service answers probes again
			pause(ctx, delay(0), nil)
		}
	}
}

// readStream reads one stream to its end, and returns whether it delivered a message.
func (f *Follower) readStream(ctx context.Context) (spoke bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var from string
	f.validator.update(func(r *replica) error { from = r.connect(); return nil })
	f.mu.Lock()
	f.endStream = cancel
	f.streams++
	f.mu.Unlock()
	opened, err := f.connection.open(ctx, "TokenService/StreamRevocations", encodeStreamRequest(from, f.subscriberID))
	if err != nil {
		f.failed(err)
		return false
	}
	defer opened.close()
	for {
		data, err := opened.next()
		if err != nil {
			return spoke
		}
		message, err := decodeMessage(data)
		if err == nil {
			err = f.validator.update(func(r *replica) error { return r.receive(message) })
		}
		if err != nil {
			f.failed(err)
			f.validator.update(func(r *replica) error { r.distrust(); return nil })
			return spoke
		}
		if message.ConfirmationRequested || message.CaughtUp && !spoke {
			ring(f.wake)
		}
		spoke = true
	}
}

// prove sends the probes.
func (f *Follower) prove(ctx context.Context) {
	interval := f.validator.config.Bound / probesPerBound
	failures, sweptAt := 0, math.Inf(-1)
	for ctx.Err() == nil {
		drain(f.wake)
		if err := f.probe(ctx); err != nil {
			f.failed(err)
			failures++
		} else {
			if failures > 0 {
				ring(f.cameBack)
			}
			failures = 0
			f.failed(nil)
		}
		needsNewStream := false
		f.validator.update(func(r *replica) error {
			needsNewStream = r.needsNewStream(stallTimeout)
			if now := r.clock.Elapsed(); now-sweptAt >= sweepInterval {
				sweptAt = now
				r.sweep()
			}
			return nil
		})
		if needsNewStream {
			f.mu.Lock()
			f.endStream()
			f.mu.Unlock()
		}
		if failures > 0 {
			pause(ctx, min(interval, delay(failures-1)), nil)
		} else {
			pause(ctx, shortestGap, nil)
			pause(ctx, interval*(0.8+0.2*rand.Float64()), f.wake)
		}
	}
}

func (f *Follower) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, seconds64(min(probeTimeout, f.validator.config.Bound)))
	defer cancel()
	var started probe // its clocks are read before the call: freshness counts from there
	var keyRevision int64
	f.validator.update(func(r *replica) error {
		started, keyRevision = r.beginProbe(), max(0, r.keyRevision)
		return nil
	})
	request := encodeConfirmRequest(f.subscriberID, started.at.text, keyRevision)
	answer, err := f.connection.call(ctx, "TokenService/ConfirmRevocations", request)
	if err != nil {
		return err
	}
	head, err := decodeHead(answer)
	if err != nil {
		return err
	}
	return f.validator.update(func(r *replica) error { return r.answer(started, head) })
}

func (f *Follower) failed(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lastError = err
}

// delay returns the seconds before a repetition: random between half and all of initialDelay * 2^attempt, at most
// longestDelay.
func delay(attempt int) float64 {
	return min(longestDelay, initialDelay*math.Exp2(float64(min(attempt, 30)))) * (0.5 + rand.Float64()/2)
}

// pause waits, and returns whether the bell rang before the time was over.
func pause(ctx context.Context, seconds float64, bell <-chan struct{}) bool {
	timer := time.NewTimer(seconds64(seconds))
	defer timer.Stop()
	select {
	case <-bell:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func ring(bell chan<- struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

func drain(bell <-chan struct{}) {
	select {
	case <-bell:
	default:
	}
}

func seconds64(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
