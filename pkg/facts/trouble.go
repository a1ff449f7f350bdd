package facts

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/pkg/status"
)

// Condition is something that is wrong now.
type Condition struct {
	Key   string        // "target-refused s3://bucket/live"
	After time.Duration // how long it has to be so before it is told
	Text  string        // for a phone: who, what, how much is at stake
	Hint  string        // what a person can do
	Well  string        // what is said at its end
}

// trouble is a condition over time.
type trouble struct {
	Since time.Time     `json:"since"` // when it was seen first
	Seen  time.Time     `json:"seen"`  // when it was seen last
	Held  time.Duration `json:"held"`  // how long it was so, without the moments in between at which it was not
	Told  bool          `json:"told,omitempty"`
	Again bool          `json:"again,omitempty"`
	Over  time.Time     `json:"over,omitzero"` // when its last end was told
	Text  string        `json:"text"`
	Hint  string        `json:"hint,omitempty"`
	Well  string        `json:"well"`
}

const (
	// quiet is how long a condition must not be seen to be over.
	quiet = 2 * time.Minute
	// calm is that for one that came back within such a time: so that whatever comes and goes, however quickly or slowly,
	// gives at most three messages in any hour, and the last one is true.
	calm = time.Hour
	// blink is the longest time between two looks that counts as a condition being so all the while.
	blink = time.Minute
)

// troubles tells what begins to be wrong and what is well again.
func (t *Teller) troubles(p Picture) []Fact {
	var out []Fact
	now := map[string]bool{}
	for _, c := range t.conditions(p) {
		if now[c.Key] {
			continue
		}
		now[c.Key] = true
		s := t.mem.Troubles[c.Key]
		if s == nil {
			s = &trouble{}
			t.mem.Troubles[c.Key] = s
		}
		switch {
		case s.Since.IsZero():
			s.Since, s.Held = p.Now, 0
		case s.Seen.Equal(t.last): // it was so at the last look too
			s.Held += min(max(p.Now.Sub(s.Seen), 0), blink)
		}
		s.Seen, s.Text, s.Hint, s.Well = p.Now, naming.Line(c.Text), naming.Line(c.Hint), naming.Line(c.Well)
		if !s.Told && s.Held >= c.After {
			s.Told, t.dirt = true, true
			s.Again = !s.Over.IsZero() && p.Now.Sub(s.Over) < calm
			out = append(out, s.fact(c.Key, Begins, p.Now))
		}
	}
	for _, key := range sortedKeys(t.mem.Troubles) {
		s := t.mem.Troubles[key]
		if now[key] || p.Ledger != nil && key != "config" { // who cannot ask knows nothing
			continue
		}
		if t.last.IsZero() || s.Seen.After(p.Now) { // a new process has not looked yet; a clock was set back
			s.Seen = p.Now
		}
		wait := quiet
		if s.Again {
			wait = calm
		}
		away := p.Now.Sub(s.Seen)
		switch {
		case s.Told && away >= wait:
			out = append(out, s.fact(key, Ends, p.Now))
			*s = trouble{Seen: s.Seen, Over: p.Now}
			t.dirt = true
		case !s.Told && away >= quiet:
			s.Since, s.Held = time.Time{}, 0
			if s.Over.IsZero() || p.Now.Sub(s.Over) >= calm {
				delete(t.mem.Troubles, key)
			}
		}
	}
	return out
}

func (s *trouble) fact(key, state string, now time.Time) Fact {
	tr := &Trouble{Key: key, State: state, Since: status.Stamp(s.Since), Text: s.Text, Hint: s.Hint, Again: s.Again}
	if state == Ends {
		tr.Text, tr.Hint = s.Well+".", ""
		if long := s.Seen.Sub(s.Since).Round(time.Second); long > 0 {
			tr.Text = fmt.Sprintf("%s, after %s.", s.Well, status.Span(long))
		}
	}
	return Fact{Format: Format, Kind: TroubleFact, At: status.Stamp(now), Trouble: tr}
}

// Open are the troubles that were told and are not over, oldest first.
func (t *Teller) Open() []Trouble {
	var out []Trouble
	for _, key := range sortedKeys(t.mem.Troubles) {
		if s := t.mem.Troubles[key]; s.Told {
			out = append(out, *s.fact(key, Begins, s.Seen).Trouble)
		}
	}
	slices.SortStableFunc(out, func(a, b Trouble) int { return strings.Compare(a.Since, b.Since) })
	return out
}

func sortedKeys(m map[string]*trouble) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// rule finds conditions of one kind. Together they are the table of what is never silent.
type rule struct {
	name string
	find func(t *Teller, p Picture) []Condition
}

var rules = []rule{
	{"ledger", ledger}, {"config", config}, {"disk", disk}, {"targets", targets}, {"lists", lists}, {"rooms", rooms}, {"gaps", gaps}, {"unsafe", unsafe},
	{"more", func(_ *Teller, p Picture) []Condition { return p.More }},
}

func (t *Teller) conditions(p Picture) []Condition {
	var out []Condition
	for _, r := range rules {
		out = append(out, r.find(t, p)...)
	}
	return out
}

func ledger(_ *Teller, p Picture) []Condition {
	if p.Ledger == nil {
		return nil
	}
	return []Condition{{Key: "ledger", After: 10 * time.Second, Well: "The ledger can be written again",
		Text: "The ledger cannot be used, so that nothing new is sent or freed: " + p.Ledger.Error(),
		Hint: "Look at the disk of the data folder: is it full, read-only or gone? Recording goes on as long as it can."}}
}

func config(_ *Teller, p Picture) []Condition {
	if p.Config == "" {
		return nil
	}
	return []Condition{{Key: "config", Text: "The config file has an error, the old settings stay: " + p.Config,
		Hint: "Put it right; `liverec serve --check FILE` says whether it is sound.", Well: "The config file is sound again"}}
}

func disk(_ *Teller, p Picture) []Condition {
	d := p.Status.Disk
	low := Condition{Key: "disk-low", After: 10 * time.Second, Well: "There is enough room on the disk again",
		Text: fmt.Sprintf("The disk runs short: %s free, %s wanted. %s of media are safe nowhere else yet.", status.Size(d.Free), status.Size(d.MinFree), status.Size(p.Status.UnsafeBytes)),
		Hint: "Free some room, or look why uploads are slow; below " + status.Size(d.StopFree) + " rooms pause."}
	switch d.Step {
	case "", "ok":
		return nil
	case "low":
		return []Condition{low}
	}
	return []Condition{low, {Key: "disk-stop", Well: "Recording goes on, there is room on the disk again",
		Text: fmt.Sprintf("Recording pauses, the least important room first: only %s are free on the disk.", status.Size(d.Free)),
		Hint: "Free some room: recording goes on by itself at " + status.Size(2*d.StopFree) + ". Media that is safe nowhere else is never deleted."}}
}

// name is what the user calls a target.
func (p Picture) name(target string) string {
	if n := p.Names[target]; n != "" {
		return n
	}
	return target
}

func targets(_ *Teller, p Picture) []Condition {
	var out []Condition
	for _, t := range p.Status.Targets {
		name := p.name(t.Target)
		wait := "."
		if t.DueParts > 0 {
			wait = fmt.Sprintf("; %s (%s) wait on the disk.", count(t.DueParts, "part"), status.Size(t.DueBytes))
		}
		why := ""
		if t.Error != "" {
			why = ": " + strings.TrimSuffix(t.Error, ".")
		}
		if t.Parked > 0 {
			out = append(out, Condition{Key: "parked " + t.Target, After: 10 * time.Second, Well: name + " takes its parts again",
				Text: fmt.Sprintf("%s of %s cannot go on without a person%s.", count(t.Parked, "part"), name, why),
				Hint: "Look at `liverec status --parts`, put right what it says, then `liverec resume` or a restart tries again."})
		}
		switch {
		case t.State == status.TargetRefused && t.Parked == 0:
			out = append(out, Condition{Key: "refused " + t.Target, After: 30 * time.Second, Well: name + " takes parts again",
				Text: name + " refuses what is sent" + why + wait, Hint: "Check its password, cookie, bucket or permissions. Nothing is deleted meanwhile."})
		case t.State == status.TargetAway:
			after := 30 * time.Minute
			if t.DueParts > 0 {
				after = 10 * time.Minute
			}
			out = append(out, Condition{Key: "unreachable " + t.Target, After: after, Well: name + " can be reached again",
				Text: name + " cannot be reached" + why + wait, Hint: "It is tried again all the time; look at the network and at the target."})
		case t.State == status.TargetThrottled && t.DueParts > 0:
			out = append(out, Condition{Key: "throttled " + t.Target, After: time.Hour, Well: name + " takes parts at full speed again",
				Text: name + " slows us down" + why + wait, Hint: "It says that too much is asked of it; fewer uploads or rooms on this account help."})
		}
	}
	return out
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func lists(_ *Teller, p Picture) []Condition {
	var out []Condition
	for _, b := range p.Broadcasts {
		for target, pub := range b.Publications {
			if pub.Why == "" || !pub.Required || pub.Wanted == pub.Shown {
				continue
			}
			name := p.name(string(target))
			out = append(out, Condition{Key: "list " + string(target) + " " + string(b.Session.ID), After: 10 * time.Minute,
				Text: fmt.Sprintf("The list of %s on %s cannot be set: %s", b.Session.Name, name, pub.Why),
				Hint: "The parts are sent all the same; look at `liverec status`.", Well: fmt.Sprintf("The list of %s on %s is set", b.Session.Name, name)})
		}
	}
	return out
}

func rooms(t *Teller, p Picture) []Condition {
	live := map[string]bool{}
	for _, b := range p.Broadcasts {
		if b.Session.Ended.IsZero() {
			live[b.Session.Room.Name] = true
		}
	}
	var out []Condition
	for _, r := range p.Status.Rooms {
		why := ""
		if r.Error != "" {
			why = ": " + strings.TrimSuffix(r.Error, ".")
		}
		switch r.State {
		case status.OnAir:
			t.live[r.Room] = p.Now
		case status.Blocked:
			out = append(out, Condition{Key: "blocked " + r.Room, After: time.Minute, Well: r.Room + " can be recorded again",
				Text: r.Room + " cannot be recorded" + why + ".", Hint: "The site answers, but not us: look at the room, at the cookies, and at `liverec probe`."})
		case status.Unreachable:
			after, was := time.Hour, ""
			if last, ok := t.live[r.Room]; ok && p.Now.Sub(last) < time.Hour || live[r.Room] {
				after, was = 5*time.Minute, ", and was live"
			}
			out = append(out, Condition{Key: "room " + r.Room, After: after, Well: r.Room + " can be reached again",
				Text: r.Room + " cannot be reached" + was + why + ".", Hint: "It is tried again all the time; look at the network of this machine, then at the site."})
		}
	}
	return out
}

// Gaps with these reasons were wanted.
const (
	WhyAd     = "advertisement"
	WhyPaused = "paused"
)

// Gaps are trouble when the last half hour misses half a minute, or has five of them.
const (
	gapWindow = 30 * time.Minute
	gapTime   = 30 * time.Second
	gapCount  = 5
)

func gaps(_ *Teller, p Picture) []Condition {
	var out []Condition
	for _, b := range p.Broadcasts {
		n, sum, why := 0, time.Duration(0), ""
		for _, g := range slices.Backward(b.Gaps) {
			if g.Why == WhyAd || g.Why == WhyPaused || p.Now.Sub(g.At.Add(g.Length)) > gapWindow {
				continue
			}
			n++
			sum += g.Length
			if why == "" {
				why = g.Why
			}
		}
		if sum < gapTime && n < gapCount {
			continue
		}
		room := b.Session.Room.Name
		out = append(out, Condition{Key: "gaps " + room, Well: room + " has been recorded without larger gaps for half an hour",
			Text: fmt.Sprintf("%s has %s in the last half hour, %s are missing: %s.", room, count(n, "gap"), status.Span(sum), why),
			Hint: "They stand in the manifest and in the report at the end. If it is not the streamer's line, look at the network and the disk of this machine."})
	}
	return out
}

func unsafe(t *Teller, p Picture) []Condition {
	oldest := time.Duration(p.Status.OldestUnsafeSeconds * float64(time.Second))
	if oldest < t.cfg.Unsafe || p.Status.UnsafeBytes == 0 {
		return nil
	}
	return []Condition{{Key: "unsafe", After: time.Minute, Well: "What waited long is safe now",
		Text: fmt.Sprintf("Media has been on this disk alone for %s; %s are safe nowhere else.", status.Span(oldest.Round(time.Minute)), status.Size(p.Status.UnsafeBytes)),
		Hint: "Look at the targets: is the line too slow for what is recorded, or does one of them not answer?"}}
}
