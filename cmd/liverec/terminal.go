package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/liverec/liverec/pkg/status"
)

// terminal keeps a few live lines at the bottom and lets log lines pass above them. It is the writer of the logger.
type terminal struct {
	out   *os.File
	paint paint

	mu    sync.Mutex
	lines []string
	drawn int
	ended bool
}

// isTerminal reports whether live lines make sense on f.
func isTerminal(f io.Writer) (*os.File, bool) {
	file, ok := f.(*os.File)
	return file, ok && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb"
}

func newTerminal(out *os.File) *terminal {
	return &terminal{out: out, paint: os.Getenv("NO_COLOR") == ""}
}

// Write prints a log line above the live lines.
func (t *terminal) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var buf bytes.Buffer
	t.erase(&buf)
	buf.Write(b)
	t.draw(&buf)
	if _, err := t.out.Write(buf.Bytes()); err != nil {
		return 0, err
	}
	return len(b), nil
}

// show replaces the live lines.
func (t *terminal) show(lines []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	var buf bytes.Buffer
	t.erase(&buf)
	t.lines = lines
	t.draw(&buf)
	_, _ = t.out.Write(buf.Bytes()) // a terminal that went away is no reason to stop recording
}

// end leaves the terminal as a person expects it: without the live lines, cursor at the start of a line.
func (t *terminal) end() {
	t.show(nil)
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
}

func (t *terminal) erase(buf *bytes.Buffer) {
	if t.drawn > 0 {
		fmt.Fprintf(buf, "\x1b[%dA\r\x1b[J", t.drawn)
	}
	t.drawn = 0
}

func (t *terminal) draw(buf *bytes.Buffer) {
	for _, l := range t.lines {
		buf.WriteString(l)
		buf.WriteByte('\n')
	}
	t.drawn = len(t.lines)
}

func (t *terminal) width() int {
	w, _, err := term.GetSize(int(t.out.Fd()))
	if err != nil || w < 20 {
		return 80
	}
	return w
}

// follow draws the newest picture twice a second until ctx ends.
func (t *terminal) follow(ctx context.Context, segment time.Duration, look func(context.Context) (status.Status, error)) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	defer t.end()
	for {
		if st, err := look(ctx); err == nil {
			t.show(screen(st, segment, t.width(), time.Now(), t.paint))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
