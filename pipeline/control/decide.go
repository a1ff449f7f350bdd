package control

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/liverec/liverec/pkg/manifest"
	"github.com/liverec/liverec/pkg/segment"
)

// Kind says what an Action is.
type Kind uint8

// The kinds of actions.
const (
	Publish  Kind = iota + 1 // set the list of Session on Target to Manifest
	Complete                 // nothing is left to do for Session but to free the disk
	Alert                    // a person should look: Key and Why
	Look                     // ask Target what became of the parts that its list shows
)

func (k Kind) String() string { return [...]string{"none", "publish", "complete", "alert", "look"}[k] }

// Action is one thing that has to be done so that the world looks as the ledger says it should.
type Action struct {
	Kind    Kind
	Session segment.Session
	Target  segment.TargetID // Publish, Look, Alert

	Manifest manifest.Manifest  // Publish
	Digest   string             // Publish: of Manifest
	Parts    []segment.Delivery // Publish, Look: those of the list
	Token    string             // Publish, Look: the Submitter's note

	Key string // Alert: one condition has one key for as long as it lasts
	Why string // Alert: for people
}

const (
	// Late is how long the youngest second of a sealed part may wait for its proof before a person is told.
	Late = 15 * time.Minute
	// LateList is the same for a part that is stored and waits for a submission to show it.
	LateList = 24 * time.Hour
	// Patience is how long a finished broadcast waits for a target that is not required before it is complete
	// without it.
	Patience = 15 * time.Second
)

// Decide says what is left to do for one broadcast. It is pure, and it is the whole of control's judgement: the same
// facts always give the same actions, so it may be asked as often as one likes, and a list of actions that got lost
// is simply decided again.
//
// A list is never set to fewer parts than the target has confirmed before (I4), also where a proof was taken back
// since.
func Decide(b segment.Broadcast, now time.Time) []Action {
	var out []Action
	done := !b.Session.Ended.IsZero() && !slices.ContainsFunc(b.Segments, func(s segment.Segment) bool { return !s.Sealed })
	waiting, required := false, false // for a target that is not required; whether there is one that is
	for _, t := range Targets(b) {
		a, some := setting(b, t)
		m, p, parts := a.Manifest, b.Publications[t], a.Parts
		shown := !some || p.Shown == a.Digest
		if !shown && len(m.Parts) >= p.Parts {
			out = append(out, a)
		}
		if p.Token != "" && slices.ContainsFunc(parts, waits) {
			out = append(out, Action{Kind: Look, Session: b.Session, Target: t, Parts: parts, Token: p.Token})
		}
		whole := shown && len(m.Parts) == len(b.Deliveries[t]) && !slices.ContainsFunc(parts, waits)
		if Required(b, t) {
			done, required = done && whole, true
		} else {
			waiting = waiting || !whole
		}
		out = append(out, alerts(b, t, now)...)
	}
	if done && waiting {
		done = required && now.Sub(b.Session.Ended) >= Patience
	}
	if done {
		out = append(out, Action{Kind: Complete, Session: b.Session})
	}
	if err := b.Session.Account.Check(); err != nil && !b.Session.Ended.IsZero() {
		out = append(out, Action{
			Kind: Alert, Session: b.Session, Key: "account " + string(b.Session.ID),
			Why: fmt.Sprintf("the account of broadcast %s does not balance: %v", b.Session.ID, err),
		})
	}
	return out
}

// setting sets the list of a target to all that it can show; false: nothing yet.
func setting(b segment.Broadcast, t segment.TargetID) (Action, bool) {
	m, parts := manifest.Make(b, t), manifest.Prefix(b.Deliveries[t])
	digest := m.Digest()
	if sum := objects(parts); sum != "" {
		digest += "+" + sum
	}
	return Action{Kind: Publish, Session: b.Session, Target: t, Manifest: m, Digest: digest, Parts: parts, Token: b.Publications[t].Token}, len(m.Parts) > 0
}

// waits reports whether the list has to prove a part yet.
func waits(d segment.Delivery) bool { return d.State != segment.Verified }

// objects names what the parts of a list became on a target whose list is the proof: a part that was sent again is
// another object there, and the list is another list. "" on all other targets.
func objects(parts []segment.Delivery) string {
	if !slices.ContainsFunc(parts, func(d segment.Delivery) bool { return !d.Stored.IsZero() }) {
		return ""
	}
	h := sha256.New()
	for _, d := range parts {
		fmt.Fprintf(h, "%d %s\n", d.Segment.ID.Seq, d.Receipt.Tag)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Targets names every target that has, or shall have, something of the broadcast, sorted.
func Targets(b segment.Broadcast) []segment.TargetID {
	all := make(map[segment.TargetID]bool, len(b.Deliveries))
	for t := range b.Deliveries {
		all[t] = true
	}
	for t := range b.Publications {
		all[t] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// Required reports whether the broadcast is not over without target t.
func Required(b segment.Broadcast, t segment.TargetID) bool {
	return b.Publications[t].Required || slices.ContainsFunc(b.Deliveries[t], func(d segment.Delivery) bool { return d.Required })
}

// alerts names the conditions of one target that do not get better by themselves. Their keys carry no session: a
// target that is dead for ten rooms is one condition.
func alerts(b segment.Broadcast, t segment.TargetID, now time.Time) []Action {
	var out []Action
	var parked, late int
	var why, lateWhy string
	var oldest time.Duration
	for _, d := range b.Deliveries[t] {
		switch {
		case d.State == segment.Parked:
			parked, why = parked+1, cmp.Or(why, d.Why)
		case d.State != segment.Verified && d.Segment.Sealed && !d.Segment.Foreign:
			limit := Late
			if d.Listable() {
				limit = LateList
			}
			if age := now.Sub(d.Segment.Start.Add(d.Segment.Duration)); age >= limit {
				late, oldest, lateWhy = late+1, max(oldest, age), cmp.Or(lateWhy, d.Why)
			}
		}
	}
	if parked > 0 {
		out = append(out, Action{
			Kind: Alert, Session: b.Session, Target: t, Key: "parked " + string(t),
			Why: fmt.Sprintf("%s for %s %s for a person: %s", count(parked, "part"), t, plural(parked, "waits", "wait"), cmp.Or(why, "no reason is on record")),
		})
	}
	if late > 0 {
		text := fmt.Sprintf("%s for %s %s not safe after %v", count(late, "part"), t, plural(late, "is", "are"), oldest.Round(time.Minute))
		if lateWhy != "" {
			text += ": " + lateWhy
		}
		out = append(out, Action{Kind: Alert, Session: b.Session, Target: t, Key: "late " + string(t), Why: text})
	}
	if p := b.Publications[t]; p.Why != "" {
		out = append(out, Action{
			Kind: Alert, Session: b.Session, Target: t, Key: "list " + string(t),
			Why: fmt.Sprintf("the list of %s on %s is not up to date: %s", b.Session.Name, t, p.Why),
		})
	}
	return out
}

func count(n int, what string) string { return fmt.Sprintf("%d %s", n, plural(n, what, what+"s")) }

func plural(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}
