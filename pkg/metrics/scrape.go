package metrics

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/liverec/liverec/pkg/status"
)

// Input is what one scrape is answered with.
type Input struct {
	Status   status.Status
	Numbers  Numbers
	ConfigOK bool
	Version  string
}

const (
	maxWhys  = 32 // reasons of one room; those beyond, by the alphabet, count as "other"
	maxLabel = 120
)

// Exposition answers scrapes, any number at once. See New.
type Exposition struct {
	process prometheus.Gatherer // what the runtime and the system say of the process
}

// New makes the one of a process.
func New() *Exposition {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &Exposition{r}
}

// Scrape takes all numbers, so that the handler, which is good for one request, has only to write them. A room or target
// whose name came before is left out, since Prometheus would refuse all of it; so an error is a bug of ours.
func (e *Exposition) Scrape(in Input) (http.Handler, error) {
	r := prometheus.NewRegistry()
	if err := r.Register(collector{in}); err != nil {
		return nil, fmt.Errorf("describe the metrics: %w", err)
	}
	all, err := prometheus.Gatherers{r, e.process}.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather the metrics: %w", err)
	}
	return promhttp.HandlerFor(prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return all, nil }), promhttp.HandlerOpts{}), nil
}

// collector has the numbers of one scrape.
type collector struct{ in Input }

// Describe is part of prometheus.Collector.
func (collector) Describe(to chan<- *prometheus.Desc) {
	for _, f := range families() {
		to <- f.Desc
	}
}

// Collect is part of prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	tell := func(f family, v float64, labels ...string) {
		for i, l := range labels {
			labels[i] = label(l)
		}
		to <- prometheus.MustNewConstMetric(f.Desc, f.kind, v, labels...)
	}
	st := c.in.Status
	states := map[string]int{}
	for _, r := range distinct(st.Rooms, func(r status.Room) string { return r.Room }) {
		states[r.State]++
		tell(unsafeBytes, float64(r.UnsafeBytes), r.Room)
		tell(bitrate, float64(r.Bitrate), r.Room)
	}
	for _, state := range []string{status.Waiting, status.OnAir, status.Paused, status.Blocked, status.Unreachable, status.Ended} {
		tell(rooms, float64(states[state]), state)
	}
	for _, t := range distinct(st.Targets, func(t status.Target) string { return t.Target }) {
		tell(deliveryAge, t.OldestDueSeconds, t.Target)
		tell(deliveryDue, float64(t.DueBytes), t.Target)
		tell(deliveryHeld, float64(t.Parked), t.Target)
	}
	n := c.in.Numbers
	for _, r := range distinct(n.Rooms, func(r Room) string { return r.Room }) {
		tell(oldestUnsafe, r.OldestUnsafe, r.Room)
		tell(received, float64(r.ReceivedTotal), r.Room)
		for _, why := range few(r.MissingTotal) {
			tell(gapSeconds, why.n, r.Room, why.label)
		}
	}
	for _, t := range distinct(n.Targets, func(t Target) string { return t.Target }) {
		tell(uploaded, float64(t.UploadedTotal), t.Target)
		for _, kind := range few(t.RetriesTotal) {
			tell(retries, float64(kind.n), t.Target, kind.label)
		}
	}
	for _, state := range []PartState{Open, Unsafe, Safe, Freed} {
		tell(parts, float64(n.Parts[state]), string(state))
	}
	tell(diskFree, float64(st.Disk.Free))
	tell(diskMinFree, float64(st.Disk.MinFree))
	tell(diskStopFree, float64(st.Disk.StopFree))
	ok := 0.0
	if c.in.ConfigOK {
		ok = 1
	}
	tell(configOK, ok)
	tell(build, 1, c.in.Version)
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

type reason[N int64 | float64] struct {
	label string
	n     N
}

// few are the reasons of one room or target, sorted, each label once, at most maxWhys.
func few[N int64 | float64](whys map[string]N) []reason[N] {
	short := make(map[string]N, len(whys))
	for why, n := range whys {
		short[label(why)] += n
	}
	out := make([]reason[N], 0, len(short))
	for why, n := range short {
		out = append(out, reason[N]{why, n})
	}
	slices.SortFunc(out, func(a, b reason[N]) int { return cmp.Compare(a.label, b.label) })
	if len(out) <= maxWhys {
		return out
	}
	other := reason[N]{label: "other"}
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
