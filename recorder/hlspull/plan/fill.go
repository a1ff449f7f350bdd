package plan

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/media/hls"
)

// missed makes segments of what lies between the last number known and the first one listed.
func (p *Planner) missed(es []*entry, first int64, r *Result) {
	count := first - p.last - 1
	step := p.step(middle(es))
	total := time.Duration(min(float64(count)*float64(step), float64(maxLost)))
	k := p.entries[p.last]
	if k != nil && !k.date.IsZero() && !es[0].date.IsZero() {
		if d := es[0].date.Sub(k.ends()); d > 0 && float64(d) > float64(total)/5 && float64(d) < float64(total)*5 {
			total = d
		}
	}
	each := total / time.Duration(count)
	r.Events = append(r.Events, Event{What: Jumped, Count: uint64(count), Length: total})
	r.Changed = true
	names, guess := p.pattern(es)
	e := es[0]
	guess = guess && len(e.keys) == 0 || guess && k != nil && len(k.keys) == len(e.keys) && k.keys[0] == e.keys[0]
	var date time.Time
	if !e.date.IsZero() && count < 1<<20 {
		date = e.date.Add(-each * time.Duration(count))
	}
	period := e.period
	if k != nil {
		period = k.period
	}
	add := func(n, count int64) {
		seg := Segment{ID: p.id(n), Sequence: uint64(max(n-p.offset, 0)), Duration: each * time.Duration(count), Date: date, Period: period,
			Map: e.init, Keys: e.keys, Unseen: true, Count: uint64(count)}
		if guess && count == 1 {
			seg.URL, seg.Path = names.at(n)
		}
		if !date.IsZero() {
			date = date.Add(seg.Duration)
		}
		r.New = append(r.New, seg)
	}
	if rest := count - MaxUnseen; rest > 0 {
		add(p.last+1, rest)
		p.last += rest
		p.low = max(p.low, p.last)
	}
	for n := p.last + 1; n < first; n++ {
		add(n, 1)
		seg := &r.New[len(r.New)-1]
		p.remember(n, &entry{seq: n - p.offset, url: seg.URL, key: seg.Path, date: seg.Date, duration: each, period: period, init: e.init,
			keys: e.keys, unseen: true})
	}
	p.last = first - 1
}

// names is the rule by which segments are called: one number in the URL that rises with each of them.
type names struct {
	before, after string // of the URL
	number        int64  // of segment n
	n             int64
	width         int // with zeros in front; 0: without
}

func (w names) at(n int64) (raw, where string) {
	x := w.number + n - w.n
	if x < 0 {
		return "", ""
	}
	raw = w.before + fmt.Sprintf("%0*d", w.width, x) + w.after
	return raw, pathOf(&hls.Segment{URL: raw})
}

// pattern finds the rule behind at least three names in a row, if the last one known obeys it too.
func (p *Planner) pattern(es []*entry) (names, bool) {
	if p.placeless {
		return names{}, false
	}
	row := es
	if len(row) > 8 {
		row = row[:8]
	}
	n := p.number(row[0])
	if len(row) < 3 {
		return names{}, false
	}
	for _, e := range row {
		if e.span.Length > 0 || e.url == "" {
			return names{}, false
		}
	}
	w, ok := rule(row[0].url, row[1].url)
	if !ok {
		return names{}, false
	}
	w.n = n
	for i, e := range row {
		if raw, _ := w.at(n + int64(i)); raw != e.url {
			return names{}, false
		}
	}
	if k := p.entries[p.last]; k != nil && !k.unseen {
		if _, where := w.at(p.last); where != k.key {
			return names{}, false
		}
	}
	return w, true
}

// rule is the one number in which two names differ, by 1.
func rule(a, b string) (names, bool) {
	from := 0
	for from < len(a) && from < len(b) && a[from] == b[from] {
		from++
	}
	for from > 0 && digit(a[from-1]) {
		from--
	}
	end := func(s string) int {
		i := from
		for i < len(s) && digit(s[i]) {
			i++
		}
		return i
	}
	ea, eb := end(a), end(b)
	if a[ea:] != b[eb:] || ea == from || ea-from > 18 || eb-from > 18 {
		return names{}, false
	}
	x, err := strconv.ParseInt(a[from:ea], 10, 64)
	y, err2 := strconv.ParseInt(b[from:eb], 10, 64)
	if err != nil || err2 != nil || y != x+1 {
		return names{}, false
	}
	w := names{before: a[:from], after: a[ea:], number: x}
	if strings.HasPrefix(a[from:ea], "0") && ea-from > 1 || strings.HasPrefix(b[from:eb], "0") {
		w.width = ea - from
	}
	return w, true
}

func digit(c byte) bool { return c >= '0' && c <= '9' }
