package ledger

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/liverec/liverec/pkg/segment"
)

// model is what a sceptic knows: only what the ledger said yes to, and what follows from it.
type model struct {
	sealed     map[uint32]int64 // size by seq
	proven     map[uint32]map[segment.TargetID]bool
	reclaiming map[uint32]bool
	shown      int
}

func (m *model) prove(seq uint32, to segment.TargetID) {
	if m.proven[seq] == nil {
		m.proven[seq] = map[segment.TargetID]bool{}
	}
	m.proven[seq][to] = true
}

// I1 and its sisters under any order of calls: whatever the stages say, in whatever order, nothing may be removed that is
// not sealed and proven by every required target, a freed part is never sent again, numbers have no hole, and the
// published list does not shrink.
func TestI1_AnyOrderOfCalls(t *testing.T) {
	l := fresh(t, segment.Destination{ID: s3, Required: true}, segment.Destination{ID: nas, Required: true}, segment.Destination{ID: slow})
	required := []segment.TargetID{s3, nas}
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		if n++; slowly && n > 15 {
			return
		}
		s := enter(t, l, fmt.Sprint("run ", n)).Session.ID
		m := model{sealed: map[uint32]int64{}, proven: map[uint32]map[segment.TargetID]bool{}, reclaiming: map[uint32]bool{}}
		ctx := t.Context()
		seqs := rapid.Uint32Range(1, 3)
		targets := rapid.SampledFrom([]segment.TargetID{s3, nas, slow})
		check := func(err error) bool {
			if err != nil && !errors.Is(err, ErrRefused) && !errors.Is(err, ErrUnknown) {
				r.Fatalf("neither done nor refused: %v", err)
			}
			return err == nil
		}
		part := func() segment.Segment { return newPart(s, seqs.Draw(r, "seq")) }
		// send leads a delivery straight towards its end; random steps hardly ever come there.
		send := func(p segment.Segment, to segment.TargetID, far segment.DeliveryState, wrong bool) {
			for _, s := range steps {
				if s == segment.Verified && wrong {
					bad := proof(p)
					bad.Size++
					if check(l.Verified(ctx, to, p.ID, bad)) {
						r.Fatalf("a proof of another size was taken")
					}
					return
				}
				if !check(step(ctx, l, to, p, s)) {
					return
				}
				if s == segment.Verified {
					m.prove(p.ID.Seq, to)
				}
				if s == far {
					return
				}
			}
		}
		for seq := range rapid.Uint32Range(0, 2).Draw(r, "parts before") {
			p := done(newPart(s, seq+1))
			must(t, l.Begin(ctx, newPart(s, seq+1)))
			must(t, l.Seal(ctx, p))
			m.sealed[seq+1] = p.Size
			for _, to := range []segment.TargetID{s3, nas, slow} {
				if rapid.IntRange(0, 3).Draw(r, "there before") != 0 {
					send(p, to, segment.Verified, false)
				}
			}
		}
		r.Repeat(map[string]func(*rapid.T){
			"begin": func(r *rapid.T) { check(l.Begin(ctx, part())) },
			"extend": func(r *rapid.T) {
				check(l.Extend(ctx, part().ID, segment.Extent{Durable: rapid.Int64Range(0, 9999).Draw(r, "n")}))
			},
			"seal": func(r *rapid.T) {
				if p := done(part()); check(l.Seal(ctx, p)) {
					m.sealed[p.ID.Seq] = p.Size
				}
			},
			"void": func(r *rapid.T) {
				if p := part(); check(l.Void(ctx, p.ID)) && m.sealed[p.ID.Seq] != 0 {
					r.Fatalf("a sealed part was taken back")
				}
			},
			"step": func(r *rapid.T) {
				p, to := done(part()), targets.Draw(r, "target")
				state := rapid.SampledFrom(states).Draw(r, "state")
				proof := proof(p)
				if rapid.IntRange(0, 5).Draw(r, "wrong proof") == 0 {
					proof.Size--
				}
				var ok bool
				if state == segment.Verified {
					ok = check(l.Verified(ctx, to, p.ID, proof))
				} else {
					ok = check(step(ctx, l, to, p, state))
				}
				if !ok {
					return
				}
				switch {
				case state == segment.Verified && (proof.Size != m.sealed[p.ID.Seq]):
					r.Fatalf("a proof of %d bytes was taken for a part of %d", proof.Size, m.sealed[p.ID.Seq])
				case state == segment.Verified:
					m.prove(p.ID.Seq, to)
				case state == segment.Due:
					if m.reclaiming[p.ID.Seq] {
						r.Fatalf("a freed part is to be sent again")
					}
					delete(m.proven[p.ID.Seq], to)
				}
			},
			"record": func(r *rapid.T) {
				p := part()
				if check(l.Begin(ctx, p)); check(l.Seal(ctx, done(p))) {
					m.sealed[p.ID.Seq] = done(p).Size
				}
			},
			"send": func(r *rapid.T) {
				send(done(part()), targets.Draw(r, "target"), rapid.SampledFrom(steps).Draw(r, "how far"), rapid.IntRange(0, 9).Draw(r, "wrong") == 0)
			},
			"again": func(r *rapid.T) {
				p, to := part(), targets.Draw(r, "target")
				if check(l.Again(ctx, to, p.ID, "gone")) {
					if m.reclaiming[p.ID.Seq] {
						r.Fatalf("a freed part is to be sent again")
					}
					delete(m.proven[p.ID.Seq], to)
				}
			},
			"unpark": func(r *rapid.T) { check(l.Unparked(ctx, targets.Draw(r, "target"), part().ID)) },
			"reclaiming": func(r *rapid.T) {
				p := part()
				if !check(l.Reclaiming(ctx, p.ID)) {
					return
				}
				m.reclaiming[p.ID.Seq] = true
				for _, to := range required {
					if m.sealed[p.ID.Seq] == 0 || !m.proven[p.ID.Seq][to] {
						r.Fatalf("I1: %s may go, sealed %d, proven by %v", p.ID, m.sealed[p.ID.Seq], m.proven[p.ID.Seq])
					}
				}
			},
			"reclaimed": func(r *rapid.T) {
				if p := part(); check(l.Reclaimed(ctx, p.ID)) && !m.reclaiming[p.ID.Seq] {
					r.Fatalf("%s went without an intention", p.ID)
				}
			},
			"publish": func(r *rapid.T) {
				parts := rapid.IntRange(0, 3).Draw(r, "parts")
				digest := fmt.Sprint(parts)
				if rapid.Bool().Draw(r, "intended") {
					check(l.Publishing(ctx, s, s3, digest))
				}
				if check(l.Published(ctx, s, s3, digest, parts, rapid.Bool().Draw(r, "ended"))) {
					if parts < m.shown {
						r.Fatalf("I4: %d parts were shown, now %d", m.shown, parts)
					}
					m.shown = parts
				}
			},
			"leave": func(r *rapid.T) {
				if rapid.IntRange(0, 9).Draw(r, "really") == 0 {
					check(l.Leave(ctx, s, t0, segment.Account{}))
				}
			},
			"complete": func(r *rapid.T) {
				if !check(l.Complete(ctx, s)) {
					return
				}
				for seq := range m.sealed {
					for _, to := range required {
						if !m.proven[seq][to] {
							r.Fatalf("complete, and part %d is not proven on %s", seq, to)
						}
					}
				}
			},
			"": func(r *rapid.T) {
				b, err := l.Broadcast(ctx, s)
				if err != nil {
					r.Fatal(err)
				}
				open := 0
				for i, p := range b.Segments {
					if p.ID.Seq != uint32(i+1) {
						r.Fatalf("a hole before %s", p.ID)
					}
					if p.Sealed != (m.sealed[p.ID.Seq] != 0) {
						r.Fatalf("%s: sealed %v", p.ID, p.Sealed)
					}
					if !p.Sealed {
						open++
					}
				}
				if open > 2 {
					r.Fatalf("%d parts are open", open)
				}
			},
		})
		hs, err := l.Holdings(ctx)
		if err != nil {
			r.Fatal(err)
		}
		for _, h := range hs {
			if h.ID.Session != s {
				continue
			}
			proven := m.proven[h.ID.Seq][s3] && m.proven[h.ID.Seq][nas]
			if h.Safe() != proven {
				r.Fatalf("%s: safe %v, proven %v", h.ID, h.Safe(), proven)
			}
		}
	})
}
