package mend

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/liverec/liverec/pkg/media/probe"
)

// Report is what was found in one file and what became of it.
type Report struct {
	File      string    `json:"file"`
	Container string    `json:"container"` // flv, mp4, ts; "" if it is none of them
	Size      int64     `json:"size"`
	Sound     bool      `json:"sound"` // nothing was wrong
	Wrong     []Finding `json:"wrong"`
	Done      []Deed    `json:"done"`
	Left      []string  `json:"left"` // what is odd and stays so
	Parts     []Part    `json:"parts"`
	Error     string    `json:"error,omitempty"` // why there is no sound copy
}

// Finding is something wrong with a file.
type Finding struct {
	What  string `json:"what"`
	Times int    `json:"times"`
	At    int64  `json:"at"` // byte of the first one

	code probe.Code
}

// Deed is something that was done about it.
type Deed struct {
	Part int    `json:"part"`  // from 1
	AtMS int64  `json:"at_ms"` // in the part
	What string `json:"what"`
}

// Part is one file that was written.
type Part struct {
	Path        string   `json:"path"`
	Size        int64    `json:"size"`
	DurationMS  int64    `json:"duration_ms"`
	VideoFrames int64    `json:"video_frames"`
	AudioFrames int64    `json:"audio_frames"`
	Content     string   `json:"content"` // running hash over its media, as in a manifest
	Problems    []string `json:"problems,omitempty"`

	skewed bool
}

// excused are problems that no repair can mend: there is no media to mend them with.
var excused = []probe.Code{probe.Skew, probe.Twice}

func (r *Report) wrong(at int64, times int, format string, a ...any) {
	r.Wrong = append(r.Wrong, Finding{What: fmt.Sprintf(format, a...), Times: times, At: at})
}

// judge takes over what a look at the file found, one line for each kind of problem.
func (r *Report) judge(problems []probe.Problem) {
	count := map[probe.Code]int{}
	for _, p := range problems {
		count[p.Code]++
	}
	seen := map[probe.Code]bool{}
	for _, p := range problems {
		switch {
		case seen[p.Code]:
		case p.Code == probe.Twice:
			r.Left = append(r.Left, fmt.Sprintf("%s (%d times): a still scene can look like that", p.Text, count[p.Code]))
		default:
			r.wrong(p.Offset, count[p.Code], "%s: %s", p.Code, p.Text)
			r.Wrong[len(r.Wrong)-1].code = p.Code
		}
		seen[p.Code] = true
	}
	if seen[probe.Tail] {
		r.Done = append(r.Done, Deed{Part: 1, What: "the torn end was cut off"})
	}
	if seen[probe.Metadata] || seen[probe.Index] {
		r.Done = append(r.Done, Deed{Part: 1, What: "the head and its index were made again"})
	}
	slices.SortStableFunc(r.Wrong, func(a, b Finding) int { return cmp.Compare(a.At, b.At) })
}

func hex(v uint64) string { return fmt.Sprintf("%016x", v) }

// short is a duration for people.
func short(d time.Duration) string {
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
