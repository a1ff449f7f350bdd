package pipeline

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
)

// Capacities of the channels between the stages. Each is a number of bytes that somebody signed for.
const (
	ProgressCap = 64 // doorbells of all rooms; a full one costs a doorbell, not media
	OutcomesCap = 64
	KickCap     = 1
)

// Hold is one thing that takes memory: at most Count of it, each of at most Each bytes.
type Hold struct {
	What  string
	Count int
	Each  int64
}

// Bytes is Count x Each.
func (h Hold) Bytes() int64 { return int64(h.Count) * h.Each }

// Budget is the memory promise of a process, I7: the sum of every capacity times its size. What is not in it does not
// grow with rooms, targets or the length of a broadcast, except the ledger's answers: about 1 KiB per part of the
// broadcasts that are not complete.
type Budget []Hold

// Promise makes the budget of a process. perRoom is recorder.MemoryPerRoom; a worker owns no buffer of its own, its
// body is a section of the file, so perWorker is what the client library of its target takes.
func Promise(rooms int, perRoom int64, workers int, perWorker int64) Budget {
	return Budget{
		{"live rooms", rooms, perRoom},
		{"upload workers", workers, perWorker},
		{"doorbells", ProgressCap, int64(unsafe.Sizeof(segment.Progress{}))},
		{"outcomes", OutcomesCap, int64(unsafe.Sizeof(segment.Outcome{}))},
	}
}

// Bytes is the sum.
func (b Budget) Bytes() int64 {
	var n int64
	for _, h := range b {
		n += h.Bytes()
	}
	return n
}

func (b Budget) String() string {
	var s strings.Builder
	for _, h := range b {
		fmt.Fprintf(&s, "%d %s x %s = %s\n", h.Count, h.What, status.Size(h.Each), status.Size(h.Bytes()))
	}
	fmt.Fprintf(&s, "together at most %s", status.Size(b.Bytes()))
	return s.String()
}
