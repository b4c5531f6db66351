package validator

import (
	"math"
	"slices"
)

const (
	// maxClockStep is the number of seconds by which the two clocks may drift apart. Entries are kept this much longer
	// than necessary.
	maxClockStep = 60.0
	maxPending   = 8
)

// Clock has the two clocks of a validator, in seconds. Now is the time of day. Elapsed never goes back; it may stop while
// the machine sleeps, so freshness needs both.
type Clock interface {
	Now() float64
	Elapsed() float64
}

// replica has the revocations and the proofs of their freshness. It does no I/O and has no lock: see Validator.
//
//   - revocations contains every entry up to at. A snapshot is built separately and replaces the set in one step.
//   - It is fresh only for bound seconds from the start of a probe whose answer, the head of the log, has been applied.
//   - If the two clocks disagree, freshness ends until the next snapshot.
//   - The key set never becomes empty, and never returns to an older revision of the same log.
type replica struct {
	issuer string
	bound  float64
	clock  Clock

	revocations *revocationSet
	at          cursor
	keys        map[string]key
	keyRevision int64
	generation  int // changes with the keys
	resets      int // snapshots that replaced the set

	freshUntil, freshFrom, freshTo, provenAt float64
	offset                                   *float64 // wall clock minus elapsed time, at the start of the set
	building                                 *building
	pending                                  []answered
	behindSince                              *float64
	startOver, rewound                       bool
}

type building struct {
	revocations *revocationSet
	at          cursor
	keySet      *KeySet
	offset      float64
}

// probe is a running probe: its start on both clocks, and the cursor at that time.
type probe struct {
	elapsed, now float64
	at           cursor
}

type answered struct {
	probe probe
	head  cursor
}

func newReplica(issuer string, bound float64, clock Clock) *replica {
	r := &replica{issuer: issuer, bound: bound, clock: clock, revocations: newRevocationSet(), keyRevision: -1}
	r.provenAt = math.Inf(-1)
	r.endFreshness()
	return r
}

func (r *replica) isFresh() bool {
	now := r.clock.Now()
	return r.clock.Elapsed() < r.freshUntil && r.freshFrom <= now && now < r.freshTo
}

// connect begins a stream and returns the cursor for its request, empty to request a snapshot.
func (r *replica) connect() string {
	r.building, r.behindSince = nil, nil
	if r.startOver {
		return ""
	}
	return r.at.text
}

// receive uses a message. After an error the caller must end the stream and call distrust.
func (r *replica) receive(message *Message) error {
	if message.Reset {
		r.building = &building{revocations: newRevocationSet(), offset: r.clock.Now() - r.clock.Elapsed()}
	} else if r.building == nil && (r.at.text == "" || r.startOver || len(message.Blocks) > 0) {
		return errProtocol // the stream did not begin with a snapshot
	}
	revocations, at := r.revocations, &r.at
	if r.building != nil {
		revocations, at = r.building.revocations, &r.building.at
	}
	next, err := parseCursor(message.Cursor)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(message.Revocations, func(entry Revocation) bool { return entry.Target == "" }) {
		return errProtocol // an entry with an unknown target might revoke anything
	}
	if at.text != "" && !continues(*at, message.Revocations, next) {
		return errProtocol
	}
	for _, block := range message.Blocks {
		if err := revocations.load(block); err != nil {
			return err
		}
	}
	for _, entry := range message.Revocations {
		revocations.apply(entry)
	}
	if next.text != "" {
		*at = next
	}
	if message.KeySet != nil {
		if r.building != nil && r.keyRevision >= 0 {
			r.building.keySet = message.KeySet // it may belong to another log, whose revisions started again
		} else {
			r.takeKeySet(message.KeySet)
		}
	}
	if r.building != nil && r.building.at.text != "" {
		r.replaceBy(r.building)
	}
	if len(message.Revocations) > 0 || len(message.Blocks) > 0 {
		r.behindSince = nil // the stream makes progress
	}
	r.settle()
	return nil
}

// continues tells whether entries and cursor follow the known cursor without a gap.
func continues(known cursor, entries []Revocation, next cursor) bool {
	last := known.sequence
	for _, entry := range entries {
		if entry.Sequence > last+1 {
			return false
		}
		last = max(last, entry.Sequence)
	}
	if next.text == "" {
		return len(entries) == 0
	}
	return next.log == known.log && next.sequence == last
}

// distrust begins the next stream with a snapshot, because the last message did not continue the log.
func (r *replica) distrust() { r.building, r.startOver = nil, true }

// beginProbe begins a probe. Call it before the probe is sent.
func (r *replica) beginProbe() probe {
	started := probe{r.clock.Elapsed(), r.clock.Now(), r.at}
	if r.offset != nil && math.Abs(started.now-started.elapsed-*r.offset) > maxClockStep {
		// By the old time, entries that are still needed may have expired.
		r.startOver = true
	}
	return started
}

// answer uses the answer to a probe: the head of the log.
func (r *replica) answer(started probe, headCursor string) error {
	head, err := parseCursor(headCursor)
	if err != nil || head.text == "" {
		return errProtocol
	}
	if started.at.text != "" && started.at.log == head.log && started.at.sequence > head.sequence {
		// The log returned to an earlier state. It will use its sequences again for other entries.
		r.rewound, r.startOver = true, true
		r.endFreshness()
		return nil
	}
	r.pending = append(r.pending, answered{started, head})
	r.pending = r.pending[max(0, len(r.pending)-maxPending):]
	r.settle()
	return nil
}

// needsNewStream tells whether to end the current stream: the replica needs a snapshot, or the stream stays behind.
func (r *replica) needsNewStream(stallTimeout float64) bool {
	if r.startOver && (r.building == nil || r.rewound && r.building.at.text != "") {
		return true
	}
	return r.behindSince != nil && r.clock.Elapsed()-*r.behindSince > stallTimeout
}

// sweep forgets expired entries, by the clock that does not jump.
func (r *replica) sweep() {
	if r.offset != nil {
		r.revocations.dropExpired(r.clock.Elapsed() + *r.offset - 2*maxClockStep)
	}
}

// takeKeySet uses a key set if it is newer and has a usable key.
func (r *replica) takeKeySet(set *KeySet) {
	if set.Issuer != r.issuer || set.Revision <= r.keyRevision {
		return
	}
	if keys := importKeys(set.Keys); len(keys) > 0 {
		r.keys, r.keyRevision = keys, set.Revision
		r.generation++
	}
}

func (r *replica) replaceBy(made *building) {
	sameLog := r.at.text != "" && r.at.log == made.at.log
	if sameLog && made.at.sequence < r.at.sequence && !r.rewound {
		return // the node is behind: build the snapshot until it lacks no entry of the replica
	}
	if !sameLog || r.startOver {
		r.pending = nil
		r.endFreshness()
	}
	if made.keySet != nil {
		if r.at.text != "" && (!sameLog || r.rewound) {
			r.keyRevision = -1 // the revisions started again
		}
		r.takeKeySet(made.keySet)
	}
	r.revocations, r.at, r.offset = made.revocations, made.at, &made.offset
	r.building, r.behindSince, r.startOver, r.rewound = nil, nil, false, false
	r.resets++
}

func (r *replica) endFreshness() {
	r.freshUntil, r.freshFrom, r.freshTo = math.Inf(-1), math.Inf(1), math.Inf(-1)
}

// settle proves freshness by each answered probe whose head has been applied.
func (r *replica) settle() {
	r.pending = slices.DeleteFunc(r.pending, func(one answered) bool {
		if one.head.log != r.at.log || one.head.sequence > r.at.sequence {
			return false
		}
		r.prove(one.probe)
		return true
	})
	if len(r.pending) == 0 {
		r.behindSince = nil
	} else if r.behindSince == nil {
		now := r.clock.Elapsed()
		r.behindSince = &now
	}
}

func (r *replica) prove(started probe) {
	if r.startOver || r.offset == nil || started.elapsed < r.provenAt {
		return
	}
	if math.Abs(started.now-started.elapsed-*r.offset) > maxClockStep {
		return
	}
	r.provenAt = started.elapsed
	r.freshUntil = started.elapsed + r.bound
	r.freshFrom, r.freshTo = started.now-maxClockStep, started.now+r.bound
}
