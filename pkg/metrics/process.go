package metrics

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
)

// Process is what the system says of this process. What it does not say is 0.
type Process struct {
	Goroutines int
	CPUSeconds float64
	Resident   int64
	Files      int
	Started    float64 // Unix seconds
}

// ticks per second in /proc, on every Linux that Go knows.
const ticks = 100

// Self asks the system, which takes some microseconds.
func Self() Process {
	p := Process{Goroutines: runtime.NumGoroutine()}
	if names, err := os.ReadDir("/proc/self/fd"); err == nil {
		p.Files = len(names)
	}
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return p
	}
	// The second field is the name in parentheses, which may have any character in it.
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(f) < 22 {
		return p
	}
	number := func(i int) float64 {
		n, _ := strconv.ParseFloat(string(f[i]), 64)
		return n
	}
	p.CPUSeconds = (number(11) + number(12)) / ticks
	p.Resident = int64(number(21)) * int64(os.Getpagesize())
	if boot, err := os.ReadFile("/proc/stat"); err == nil {
		if _, rest, ok := bytes.Cut(boot, []byte("\nbtime ")); ok {
			line, _, _ := bytes.Cut(rest, []byte("\n"))
			if s, err := strconv.ParseFloat(string(line), 64); err == nil {
				p.Started = s + number(19)/ticks
			}
		}
	}
	return p
}
