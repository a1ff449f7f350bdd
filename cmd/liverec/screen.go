package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/pkg/status"
)

// paint colours text for a terminal; without colour it does nothing.
type paint bool

func (p paint) in(code, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p paint) bold(s string) string   { return p.in("1", s) }
func (p paint) dim(s string) string    { return p.in("2", s) }
func (p paint) red(s string) string    { return p.in("31", s) }
func (p paint) green(s string) string  { return p.in("32", s) }
func (p paint) yellow(s string) string { return p.in("33", s) }

// screen draws the live lines: a line a room, a line a target, one for the disk. Each is at most width cells wide.
func screen(st status.Status, segment time.Duration, width int, now time.Time, p paint) []string {
	var lines []string
	for _, r := range st.Rooms {
		lines = append(lines, roomLine(r, segment, now, p))
		for i, t := range st.Targets {
			branch := "├"
			if i == len(st.Targets)-1 {
				branch = "└"
			}
			lines = append(lines, "  "+p.dim(branch)+" "+targetLine(t, r.Open, p))
		}
	}
	lines = append(lines, diskLine(st, p))
	for i, l := range lines {
		lines[i] = ansi.Truncate(l, max(width-1, 20), "…")
	}
	return lines
}

func roomLine(r status.Room, segment time.Duration, now time.Time, p paint) string {
	dot, word := p.yellow("●"), r.State
	switch r.State {
	case status.OnAir:
		dot, word = p.red("●"), p.bold("REC")
	case status.Ended:
		dot = p.green("●")
	case status.Unreachable, status.Blocked:
		dot, word = p.red("○"), p.red(r.State)
	}
	name := naming.Line(r.Room)
	s := fmt.Sprintf("%s %s  %s", dot, p.bold(ansi.Truncate(name, 24, "…")), word)
	if since, err := time.Parse(time.RFC3339, r.Since); err == nil && r.State != status.OnAir {
		s += p.dim(" for " + status.Span(now.Sub(since).Round(time.Second)))
	}
	if o := r.Open; o != nil {
		s += fmt.Sprintf("  P%04d  %s%s  %s  %s", o.Seq, clock(time.Duration(o.DurationMS)*time.Millisecond),
			p.dim(" of "+clock(segment)), status.Size(o.Size), status.Rate(float64(r.Bitrate)))
	}
	if r.Gaps > 0 {
		s += "  " + p.yellow(fmt.Sprintf("%d %s, %s missing", r.Gaps, word1(r.Gaps, "gap"), status.Span(time.Duration(r.GapSeconds*float64(time.Second)))))
	}
	if t := naming.Line(r.Title); t != "" {
		s += "  " + p.dim(ansi.Truncate(t, 32, "…"))
	}
	if r.Error != "" && r.State != status.OnAir {
		s += "  " + p.dim(naming.Line(r.Error))
	}
	return s
}

func targetLine(t status.Target, open *status.Open, p paint) string {
	state := p.green("ok")
	switch t.State {
	case status.TargetRefused:
		state = p.red("refused")
	case status.TargetAway:
		state = p.red("unreachable")
	case status.TargetThrottled:
		state = p.yellow("throttled")
	}
	s := fmt.Sprintf("%s  %s", ansi.Truncate(naming.Line(t.Target), 44, "…"), state)
	if open != nil && open.Size > 0 {
		if away, ok := open.Away[t.Target]; ok && away > 0 {
			s += fmt.Sprintf("  open part %d %% away", away*100/open.Size)
		}
	}
	if t.Rate > 0 {
		s += "  " + status.Rate(t.Rate*8)
	}
	if t.DueParts > 0 {
		s += fmt.Sprintf("  %d %s to go, %s", t.DueParts, word1(t.DueParts, "part"), status.Size(t.DueBytes))
	}
	if t.Retries > 0 {
		s += p.dim(fmt.Sprintf("  %d %s", t.Retries, word1(int(t.Retries), "retry")))
	}
	if t.State != status.OK && t.Error != "" {
		s += "  " + p.dim(naming.Line(t.Error))
	}
	return s
}

func diskLine(st status.Status, p paint) string {
	s := fmt.Sprintf("disk %s free", status.Size(st.Disk.Free))
	switch st.Disk.Step {
	case "", "ok":
		s = p.dim(s)
	default:
		s = p.yellow(s + " (" + st.Disk.Step + ")")
	}
	if st.UnsafeBytes == 0 {
		return s + p.dim(" · everything is safe")
	}
	return s + fmt.Sprintf(" · %s safe nowhere else yet, oldest %s", status.Size(st.UnsafeBytes), status.Span(time.Duration(st.OldestUnsafeSeconds)*time.Second))
}

// clock is media time: 12:03, 1:02:03.
func clock(d time.Duration) string {
	s := int(d.Seconds())
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

func word1(n int, word string) string {
	if n == 1 {
		return word
	}
	if strings.HasSuffix(word, "y") {
		return strings.TrimSuffix(word, "y") + "ies"
	}
	return word + "s"
}
