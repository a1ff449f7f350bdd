package e2e

import (
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

// each counts calls per operation, so that a fault can hit every nth one.
type each struct {
	mu sync.Mutex
	n  map[rig.Op]int
}

func (e *each) nth(op rig.Op) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n == nil {
		e.n = map[rig.Op]int{}
	}
	e.n[op]++
	return e.n[op]
}

// What a store can do to an uploader. Whatever it does: everything is in the archive at the end, the disk is free, and
// no upload was left behind. Nothing is freed too early, or it could not be in the archive.
func TestStoreFaults(t *testing.T) {
	t.Parallel()
	writes := map[rig.Op]bool{rig.OpCreate: true, rig.OpPart: true, rig.OpComplete: true, rig.OpPut: true, rig.OpAbort: true}
	tests := []struct {
		name  string
		fault func(e *each) func(rig.Call) rig.Act
		more  time.Duration // what the fault costs
		twice bool          // a chunk may be sent again: the fault leaves no other way
	}{
		{name: "loses answers", fault: func(e *each) func(rig.Call) rig.Act {
			return func(c rig.Call) rig.Act {
				return rig.Act{LoseAnswer: writes[c.Op] && e.nth(c.Op)%3 == 1}
			}
		}, twice: true},
		{name: "hangs", more: 60 * time.Second, fault: func(e *each) func(rig.Call) rig.Act {
			return func(c rig.Call) rig.Act {
				if n := e.nth(c.Op); writes[c.Op] && n == 2 {
					return rig.Act{Hang: time.Hour}
				}
				return rig.Act{}
			}
		}},
		{name: "503 with Retry-After", more: 60 * time.Second, fault: func(e *each) func(rig.Call) rig.Act {
			return func(c rig.Call) rig.Act {
				if e.nth(c.Op)%3 == 1 {
					return rig.Act{Status: http.StatusServiceUnavailable, RetryAfter: 1}
				}
				return rig.Act{}
			}
		}},
		{name: "closes in mid-body", fault: func(e *each) func(rig.Call) rig.Act {
			return func(c rig.Call) rig.Act {
				if (c.Op == rig.OpPart || c.Op == rig.OpPut) && e.nth(c.Op)%2 == 1 {
					return rig.Act{CloseAt: max(1, c.Bytes/3)}
				}
				return rig.Act{}
			}
		}},
		{name: "flips a bit on the way", fault: func(e *each) func(rig.Call) rig.Act {
			return func(c rig.Call) rig.Act {
				return rig.Act{Flip: c.Bytes > 100 && (c.Op == rig.OpPart || c.Op == rig.OpPut) && e.nth(c.Op)%3 == 1}
			}
		}},
		{name: "lists late and loses creations", fault: func(e *each) func(rig.Call) rig.Act {
			return func(c rig.Call) rig.Act {
				n := e.nth(c.Op)
				switch c.Op {
				case rig.OpListUploads, rig.OpListParts, rig.OpList:
					return rig.Act{Late: n <= 2}
				case rig.OpCreate:
					return rig.Act{LoseAnswer: n == 1}
				default:
					return rig.Act{}
				}
			}
		}},
		{name: "away for ten seconds", more: 20 * time.Second, fault: func(*each) func(rig.Call) rig.Act {
			// From the first call on: the check at the start, right before the room is live.
			began := sync.OnceValue(time.Now)
			return func(rig.Call) rig.Act {
				if d := time.Since(began()); d > 8*time.Second && d < 18*time.Second {
					return rig.Act{Status: http.StatusInternalServerError}
				}
				return rig.Act{}
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			const media = 26 * time.Second
			dir := t.TempDir()
			s3 := rig.StartS3(t)
			proxy := rig.StartProxy(t, s3.Endpoint, test.fault(&each{}))
			room, url := live(t, liveroom.Config{Duration: media, Bitrate: 8_000_000})
			p := liverec(dir, "record", url, "--once", "--segment", "12s", "--to", s3.Dest("live", proxy.URL)).Start(t)
			p.Ends(t, after(media)+test.more, 0)
			rec := rig.Read(t, s3.Dir)
			rec.Once(t, rig.Sent(room.Connections(), nil))
			rec.Admits(t, 0)
			s3.NoUploads(t)
			rig.Empty(t, filepath.Join(dir, "liverec-data"))
			if twice := proxy.Twice(); len(twice) > 0 && !test.twice {
				t.Error(strings.Join(twice, "\n"))
			}
			faults := proxy.Count(func(c rig.Call) bool { return c.Act != rig.Act{} })
			if faults == 0 {
				t.Error("the fault did not happen")
			}
			if len(room.Connections()) != 1 {
				t.Errorf("capture was disturbed: %d connections", len(room.Connections()))
			}
		})
	}
}

// A copy that goes bad in the store after its proof is found by `verify`.
func TestVerifyFindsABadCopy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	archive := folder(t, dir, "archive")
	_, url := live(t, liveroom.Config{Duration: 14 * time.Second})
	liverec(dir, "record", url, "--once", "--segment", "6s", "--to", archive).Start(t).Ends(t, after(14*time.Second), 0)
	rec := rig.Read(t, archive)
	id := rec.Manifest.Broadcast
	liverec(dir, "verify", id).Start(t).Ends(t, 20*time.Second, 0)

	bad := rec.Manifest.Parts[1].Name
	damage(t, filepath.Join(rec.Dir, bad))
	p := liverec(dir, "verify", id).Start(t)
	p.Ends(t, 20*time.Second, 1)
	if out := p.Stdout.String() + p.Stderr.String(); !strings.Contains(out, strings.TrimSuffix(bad, ".flv")) {
		t.Errorf("it does not name %s:\n%s", bad, out)
	}
	var report any
	rig.JSON(t, liverec(dir, "verify", id, "--json"), 1, &report)
	liverec(dir, "verify", "01JNOSUCHBROADCAST0000000").Start(t).Ends(t, 20*time.Second, 1)
}
