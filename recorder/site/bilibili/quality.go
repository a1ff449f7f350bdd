package bilibili

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// rung is one quality of the platform.
type rung struct {
	qn     int
	height int      // nominal: the platform says none
	names  []string // what it is called, the first one by us; in lower case
	only   bool     // taken only by its name: not every player knows what to do with it
}

// ladder is all of them, from the best to the worst.
var ladder = [...]rung{
	{30000, 2160, []string{"dolby", "杜比", "杜比视界"}, true},
	{25000, 1440, []string{"true-colour", "原画真彩", "2k 原画", "2k原画"}, false},
	{20000, 2160, []string{"4k", "4k 原画", "4k原画"}, false},
	{15000, 1440, []string{"2k"}, false},
	{10000, 1080, []string{"original", "source", "原画", "1080p 高码率", "1080p高码率"}, false},
	{401, 1080, []string{"bluray-dolby", "蓝光(杜比)", "蓝光杜比"}, true},
	{400, 1080, []string{"bluray", "蓝光", "1080p 蓝光", "1080p蓝光"}, false},
	{250, 720, []string{"high", "超清", "720p 超清", "720p超清"}, false},
	{150, 480, []string{"medium", "高清"}, false},
	{80, 360, []string{"low", "流畅"}, false},
}

func rungOf(qn int) rung {
	for _, r := range ladder {
		if r.qn == qn {
			return r
		}
	}
	return rung{qn: qn, names: []string{strconv.Itoa(qn)}}
}

// label is what a quality is called towards people.
func label(qn int, said string) string {
	r := rungOf(qn)
	if said == "" || strings.EqualFold(said, r.names[0]) {
		return r.names[0]
	}
	return r.names[0] + " (" + said + ")"
}

// want is a checked --quality.
type want struct {
	best, worst bool
	qn          int // asked for by name or number; 0: not
	height      int // the best that is not higher; 0: not asked for
}

// CheckQuality says whether --quality means something here, and if not, what would.
func CheckQuality(s string) error {
	_, err := parseQuality(s)
	return err
}

func parseQuality(s string) (want, error) {
	q := strings.ToLower(strings.TrimSpace(s))
	switch q {
	case "", "auto", "best":
		return want{best: true}, nil
	case "worst":
		return want{worst: true}, nil
	}
	for _, r := range ladder {
		if slices.Contains(r.names, q) || q == strconv.Itoa(r.qn) {
			return want{qn: r.qn}, nil
		}
	}
	tall, _, _ := strings.Cut(q, "p")
	if h, err := strconv.Atoi(tall); err == nil && h > 0 && h < 10000 {
		return want{height: h}, nil
	}
	names := make([]string, 0, len(ladder))
	for _, r := range ladder {
		names = append(names, r.names[0])
	}
	return want{}, fmt.Errorf("%q is no quality of bilibili; use auto, best, worst, a height such as 720, a qn such as 10000, or one of %s, in Chinese too (原画)",
		clip(s), strings.Join(names, ", "))
}

// qualities are all that the room has, but for those that are taken by their name alone.
func qualities(p played) []int {
	var all []int
	for _, o := range p.options {
		for _, qn := range append([]int{o.qn}, o.accept...) {
			if !rungOf(qn).only {
				all = append(all, qn)
			}
		}
	}
	return all
}

// first is the qn of the first question: what is asked for, or the best that almost every room has.
func (w want) first() int {
	switch {
	case w.qn > 0:
		return w.qn
	case w.worst:
		return 80
	case w.height > 0:
		if qn, ok := w.pick([]int{20000, 15000, 10000, 400, 250, 150, 80}); ok {
			return qn
		}
	}
	return 10000
}

// pick chooses among the qualities that there are. Where the one that is asked for is not among them it is the next lower
// one, or else the next higher one: a broadcast that is recorded in another quality is worth more than none. ok is false
// if there is nothing to choose from.
func (w want) pick(accept []int) (qn int, ok bool) {
	have := slices.Clone(accept)
	slices.SortFunc(have, func(a, b int) int { return cmp.Compare(b, a) }) // the best first
	have = slices.Compact(have)
	usual := slices.DeleteFunc(slices.Clone(have), func(qn int) bool { return rungOf(qn).only && qn != w.qn })
	if len(usual) > 0 {
		have = usual
	}
	if len(have) == 0 {
		return 0, false
	}
	last := have[len(have)-1]
	switch {
	case w.worst:
		return last, true
	case w.qn > 0:
		for _, qn := range have {
			if qn <= w.qn {
				return qn, true
			}
		}
		return last, true
	case w.height > 0:
		for _, qn := range have {
			if h := rungOf(qn).height; h > 0 && h <= w.height {
				return qn, true
			}
		}
		return last, true
	}
	return have[0], true
}
