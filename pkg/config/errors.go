package config

import (
	"fmt"
	"strings"
)

// Error is one thing that is wrong with a file, or with the settings of one room.
type Error struct {
	File   string // "" for settings that stand in no file
	Line   int    // from 1; 0 if it is about the file as a whole
	Column int    // in characters, from 1
	Key    string // "room.segment"; "" if it is about no key
	Text   string // what is wrong and what would be right
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + ":")
		if e.Line > 0 {
			fmt.Fprintf(&b, "%d:%d:", e.Line, e.Column)
		}
		b.WriteByte(' ')
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	return b.String() + e.Text
}

// Errors is everything that is wrong with a file, in its order. It is never empty.
type Errors []*Error

// Error is the first one on one line, and how many more there are.
func (e Errors) Error() string {
	switch n := len(e) - 1; n {
	case 0:
		return e[0].Error()
	case 1:
		return e[0].Error() + " (and one more)"
	default:
		return fmt.Sprintf("%s (and %d more)", e[0], n)
	}
}

// clip keeps what somebody typed to one short line.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if r := []rune(s); len(r) > 60 {
		return string(r[:57]) + "..."
	}
	return s
}

// nearest is the word of a list that somebody may have meant, or "".
func nearest(typed string, words []string) string {
	plain := func(s string) string {
		return strings.NewReplacer("_", "", "-", "", ".", "").Replace(strings.ToLower(s))
	}
	best, least := "", 3
	for _, w := range words {
		if plain(w) == plain(typed) {
			return w
		}
		if d := distance(typed, w, least); d < least && d*2 < max(len(typed), len(w)) {
			best, least = w, d
		}
	}
	return best
}

// distance is how many letters have to be changed, put in, left out or swapped with their neighbour; at least most if the
// lengths alone say so.
func distance(a, b string, most int) int {
	if len(a)-len(b) >= most || len(b)-len(a) >= most {
		return most
	}
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last = last, row
		row = make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
