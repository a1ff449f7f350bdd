package metrics

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/liverec/liverec/pkg/status"
)

// ContentType of Text: the format that every Prometheus reads.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Input is one scrape.
type Input struct {
	Status   status.Status
	Numbers  Numbers
	ConfigOK bool
	Version  string
	Process  Process
}

const (
	maxWhys  = 32 // reasons of one room; those beyond, by the alphabet, count as "other"
	maxLabel = 120
)

// Text writes a scrape. Every series stands in it once: a room or target whose name came before is left out, since
// Prometheus would refuse all of it.
func Text(in Input) []byte {
	w := &writer{b: make([]byte, 0, 4096+600*len(in.Status.Rooms)+1200*len(in.Status.Targets))}
	st := in.Status
	st.Rooms = distinct(st.Rooms, func(r status.Room) string { return r.Room })
	st.Targets = distinct(st.Targets, func(t status.Target) string { return t.Target })
	counted := distinct(in.Numbers.Rooms, func(r Room) string { return r.Room })
	sent := distinct(in.Numbers.Targets, func(t Target) string { return t.Target })

	w.family(unsafeBytes)
	for _, r := range st.Rooms {
		w.sample(unsafeBytes, float64(r.UnsafeBytes), r.Room)
	}
	w.family(oldestUnsafe)
	for _, r := range counted {
		w.sample(oldestUnsafe, r.OldestUnsafe, r.Room)
	}
	w.family(gapSeconds)
	for _, r := range counted {
		for _, why := range few(r.MissingTotal) {
			w.sample(gapSeconds, why.n, r.Room, why.label)
		}
	}
	w.family(deliveryAge)
	for _, t := range st.Targets {
		w.sample(deliveryAge, t.OldestDueSeconds, t.Target)
	}
	w.family(received)
	for _, r := range counted {
		w.sample(received, float64(r.ReceivedTotal), r.Room)
	}
	w.family(uploaded)
	for _, t := range sent {
		w.sample(uploaded, float64(t.UploadedTotal), t.Target)
	}
	w.family(retries)
	for _, t := range sent {
		kinds := make([]string, 0, len(t.RetriesTotal))
		for k := range t.RetriesTotal {
			kinds = append(kinds, k)
		}
		slices.Sort(kinds)
		for _, k := range kinds {
			w.sample(retries, float64(t.RetriesTotal[k]), t.Target, k)
		}
	}
	w.family(rooms)
	states := map[string]int{}
	for _, r := range st.Rooms {
		states[r.State]++
	}
	for _, state := range []string{status.Waiting, status.OnAir, status.Paused, status.Blocked, status.Unreachable, status.Ended} {
		w.sample(rooms, float64(states[state]), state)
	}
	w.family(parts)
	for _, state := range []PartState{Open, Unsafe, Safe, Freed} {
		w.sample(parts, float64(in.Numbers.Parts[state]), string(state))
	}
	w.one(diskFree, float64(st.Disk.Free))
	ok := 0.0
	if in.ConfigOK {
		ok = 1
	}
	w.one(configOK, ok)
	w.one(diskMinFree, float64(st.Disk.MinFree))
	w.one(diskStopFree, float64(st.Disk.StopFree))
	w.family(deliveryDue)
	for _, t := range st.Targets {
		w.sample(deliveryDue, float64(t.DueBytes), t.Target)
	}
	w.family(deliveryHeld)
	for _, t := range st.Targets {
		w.sample(deliveryHeld, float64(t.Parked), t.Target)
	}
	w.family(bitrate)
	for _, r := range st.Rooms {
		w.sample(bitrate, float64(r.Bitrate), r.Room)
	}
	w.family(build)
	w.sample(build, 1, in.Version)
	p := in.Process
	w.one(goroutines, float64(p.Goroutines))
	w.one(processCPU, p.CPUSeconds)
	w.one(processMemory, float64(p.Resident))
	w.one(processFiles, float64(p.Files))
	w.one(processStart, p.Started)
	return w.b
}

// distinct leaves out what has the name of one before it.
func distinct[T any](list []T, name func(T) string) []T {
	seen := make(map[string]bool, len(list))
	twice := func(v T) bool {
		n := label(name(v))
		was := seen[n]
		seen[n] = true
		return was
	}
	if i := slices.IndexFunc(list, twice); i >= 0 {
		clear(seen)
		return slices.DeleteFunc(slices.Clone(list), twice)
	}
	return list
}

type reason struct {
	label string
	n     float64
}

// few are the reasons of one room, sorted, at most maxWhys.
func few(whys map[string]float64) []reason {
	short := make(map[string]float64, len(whys))
	for why, n := range whys {
		short[label(why)] += n
	}
	out := make([]reason, 0, len(short))
	for why, n := range short {
		out = append(out, reason{why, n})
	}
	slices.SortFunc(out, func(a, b reason) int { return strings.Compare(a.label, b.label) })
	if len(out) <= maxWhys {
		return out
	}
	other := reason{label: "other"}
	kept := out[:0]
	for _, r := range out {
		if len(kept) < maxWhys-1 && r.label != other.label {
			kept = append(kept, r)
		} else {
			other.n += r.n
		}
	}
	return append(kept, other)
}

// label makes any text fit to be the value of a label: valid UTF-8 of bounded length.
func label(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxLabel {
		return s
	}
	for i := range s {
		if i > maxLabel {
			return s[:i] + "…"
		}
	}
	return s
}

type writer struct{ b []byte }

func (w *writer) family(f family) {
	w.b = append(w.b, "# HELP "...)
	w.b = append(w.b, f.name...)
	w.b = append(w.b, ' ')
	w.b = append(w.b, f.help...) // has neither backslash nor newline: a test looks
	w.b = append(w.b, "\n# TYPE "...)
	w.b = append(w.b, f.name...)
	w.b = append(w.b, ' ')
	w.b = append(w.b, f.kind...)
	w.b = append(w.b, '\n')
}

func (w *writer) one(f family, v float64) {
	w.family(f)
	w.sample(f, v)
}

func (w *writer) sample(f family, v float64, values ...string) {
	w.b = append(w.b, f.name...)
	for i, value := range values {
		if i == 0 {
			w.b = append(w.b, '{')
		} else {
			w.b = append(w.b, ',')
		}
		w.b = append(w.b, f.labels[i]...)
		w.b = append(w.b, `="`...)
		for _, c := range []byte(label(value)) {
			switch c {
			case '\\', '"':
				w.b = append(w.b, '\\', c)
			case '\n':
				w.b = append(w.b, `\n`...)
			default:
				w.b = append(w.b, c)
			}
		}
		w.b = append(w.b, '"')
	}
	if len(values) > 0 {
		w.b = append(w.b, '}')
	}
	w.b = append(w.b, ' ')
	if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
		w.b = strconv.AppendInt(w.b, int64(v), 10)
	} else {
		w.b = strconv.AppendFloat(w.b, v, 'g', -1, 64)
	}
	w.b = append(w.b, '\n')
}
