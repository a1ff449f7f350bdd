// Package targettest holds what every target must keep to: a conformance suite, and a store in memory that can lie,
// hang and forget.
//
// It owns no real store and is imported by tests only.
package targettest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/wrap"
)

// Env is one empty place for copies. Every function but New may be nil: what needs it is then skipped.
type Env struct {
	// New makes a new Target for the place, as a new process would. It is called several times.
	New func(t *testing.T) uploader.Target
	// Read gives the content under a final name, found without the Target; fs.ErrNotExist (wrapped) if there is none.
	Read func(t *testing.T, key string) ([]byte, error)
	// Pending counts what is under way or was left behind: open uploads, temporary files.
	Pending func(t *testing.T) int
	// Damage changes one byte under a final name, behind the target's back. The size stays.
	Damage func(t *testing.T, key string)
	// Lose takes an object away behind the target's back.
	Lose func(t *testing.T, key string)
	// Unreachable makes a Target for a place that cannot be asked: a closed port, a folder whose mount is gone.
	Unreachable func(t *testing.T) uploader.Target
	// Folder is where the local files are made; "": t.TempDir().
	Folder string
	// Many is how many chunks of the smallest size the largest object of the suite has. 0: 4.
	Many int
}

// Run puts the targets of an environment through the suite. env is called once for each case.
func Run(t *testing.T, env func(t *testing.T) Env) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *bench)
	}{
		{"whole life", wholeLife},
		{"one small chunk", oneSmallChunk},
		{"grows, head last", grows},
		{"many chunks", manyChunks},
		{"goes on in another process", resumes},
		{"a chunk twice is one chunk", putTwice},
		{"open again after a lost answer", openTwice},
		{"commit again after a lost answer", commitTwice},
		{"every answer lost once", lostAnswers},
		{"absent", absent},
		{"damaged", damaged},
		{"lost behind our back", lost},
		{"damaged, then sent again", replaced},
		{"cannot be asked", unreachable},
		{"abort leaves nothing", aborts},
		{"a hole is refused", hole},
		{"a body that breaks off", brokenBody},
		{"a context that is over", cancelled},
		{"no bytes are refused", empty},
		{"odd names", oddNames},
		{"several at once", parallel},
		{"small files", smallFiles},
		{"small files appear all at once", smallFilesAtomic},
		{"limits and name", limits},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, &bench{Env: env(t)}) })
	}
}

// bench is the environment of one case with the usual moves.
type bench struct{ Env }

// file makes a local file of n random bytes, sealed, as an object under key.
func (b *bench) file(t *testing.T, target uploader.Target, key string, n int64) (segment.Object, []byte) {
	t.Helper()
	dir := b.Folder
	if dir == "" {
		dir = t.TempDir()
	}
	data := make([]byte, n)
	seed := [32]byte{byte(n), byte(n >> 8)}
	copy(seed[2:], key)
	rand.NewChaCha8(seed).Read(data)
	f, err := os.CreateTemp(dir, "P*.flv")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	abs, err := filepath.Abs(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	chunk, err := uploader.ChunkSize(target.Limits(), n, n)
	if err != nil {
		t.Fatal(err)
	}
	return segment.Object{
		ID: segment.ID{Session: "01JTESTTESTTESTTESTTESTTES", Seq: 1}, Key: key, Local: abs,
		Size: n, MaxSize: n, SHA256: sha256.Sum256(data), Chunk: chunk,
	}, data
}

// sized is about n chunks and a half, or some bytes where there are no chunks.
func sized(l uploader.Limits, chunks int) int64 {
	if l.MinChunk == 0 {
		return 100_003
	}
	return l.MinChunk*int64(chunks) + (l.MinChunk+1)/2
}

// chunks lists the chunks of an object in the order in which they are sent: the head last.
func chunks(o segment.Object) []segment.Chunk {
	if o.Chunk == 0 {
		return nil
	}
	var list []segment.Chunk
	for off := int64(0); off < o.Size; off += o.Chunk {
		list = append(list, segment.Chunk{Index: len(list), Offset: off, Length: min(o.Chunk, o.Size-off)})
	}
	return append(list[1:], list[0])
}

func body(data []byte, c segment.Chunk) io.ReadSeeker {
	return io.NewSectionReader(bytes.NewReader(data), c.Offset, c.Length)
}

func ctx(t *testing.T) context.Context {
	t.Helper()
	c, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return c
}

func open(t *testing.T, target uploader.Target, o segment.Object) uploader.Upload {
	t.Helper()
	up, err := target.Open(ctx(t), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	if up.Token() == "" && o.Chunk != 0 {
		t.Fatal("an upload without a token cannot be found again")
	}
	return up
}

// put sends chunks and gives the acks by index.
func put(t *testing.T, up uploader.Upload, data []byte, acks map[int]segment.Ack, list ...segment.Chunk) {
	t.Helper()
	for _, c := range list {
		a, err := up.Put(ctx(t), c, body(data, c))
		if err != nil {
			t.Fatalf("put chunk %d: %v", c.Index, err)
		}
		if a.Chunk != c {
			t.Fatalf("the ack is for %+v, not for %+v", a.Chunk, c)
		}
		acks[c.Index] = a
	}
}

func ordered(acks map[int]segment.Ack) []segment.Ack {
	var list []segment.Ack
	for i := range len(acks) {
		if a, ok := acks[i]; ok {
			list = append(list, a)
		}
	}
	return list
}

func commit(t *testing.T, up uploader.Upload, o segment.Object, acks map[int]segment.Ack) segment.Receipt {
	t.Helper()
	r, err := up.Commit(ctx(t), o, ordered(acks))
	if err != nil {
		t.Fatalf("commit: %v", err)
	}
	if r.Size != o.Size {
		t.Fatalf("the receipt says %d bytes of %d", r.Size, o.Size)
	}
	return r
}

func verify(t *testing.T, target uploader.Target, o segment.Object, r segment.Receipt) {
	t.Helper()
	p, err := target.Verify(ctx(t), o, r)
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	if p.Size != o.Size || p.How == "" || p.At.IsZero() {
		t.Fatalf("this is no proof of %d bytes: %+v", o.Size, p)
	}
}

// stored checks that the content under the key is data and that nothing was left behind.
func (b *bench) stored(t *testing.T, key string, data []byte) {
	t.Helper()
	if b.Read != nil {
		got, err := b.Read(t, key)
		if err != nil {
			t.Fatalf("read back %s: %v", key, err)
		}
		if !bytes.Equal(got, data) {
			t.Fatalf("%s has %d bytes that are not the %d that were sent", key, len(got), len(data))
		}
	}
	b.clean(t)
}

func (b *bench) clean(t *testing.T) {
	t.Helper()
	if b.Pending == nil {
		return
	}
	if n := b.Pending(t); n != 0 {
		t.Fatalf("%d uploads or temporary files were left behind", n)
	}
}

func (b *bench) invisible(t *testing.T, key string) {
	t.Helper()
	if b.Read == nil {
		return
	}
	if got, err := b.Read(t, key); err == nil {
		t.Fatalf("%d bytes are to be seen under %s before the commit", len(got), key)
	}
}

func isAbsent(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, failure.ErrAbsent) {
		t.Fatalf("%s: %v, not %q", what, err, failure.ErrAbsent)
	}
	if errors.Is(err, failure.ErrDamaged) {
		t.Fatalf("%s is absent and damaged at once: %v", what, err)
	}
}

func isDamaged(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, failure.ErrDamaged) {
		t.Fatalf("%s: %v, not %q", what, err, failure.ErrDamaged)
	}
	if errors.Is(err, failure.ErrAbsent) {
		t.Fatalf("%s is absent and damaged at once: %v", what, err)
	}
}

// whole sends an object from its opening to its proof.
func (b *bench) whole(t *testing.T, target uploader.Target, o segment.Object, data []byte) segment.Receipt {
	t.Helper()
	up := open(t, target, o)
	acks := map[int]segment.Ack{}
	put(t, up, data, acks, chunks(o)...)
	b.invisible(t, o.Key)
	r := commit(t, up, o, acks)
	verify(t, target, o, r)
	b.stored(t, o.Key, data)
	return r
}

const key = "alice/2026-01-02_030405_title/P0001.flv"

func wholeLife(t *testing.T, b *bench) {
	target := b.New(t)
	if err := target.Check(ctx(t)); err != nil {
		t.Fatalf("check: %v", err)
	}
	o, data := b.file(t, target, key, sized(target.Limits(), 2))
	r := b.whole(t, target, o, data)
	verify(t, b.New(t), o, r)
	if err := target.Check(ctx(t)); err != nil {
		t.Fatalf("check: %v", err)
	}
	b.clean(t) // a check leaves nothing either
}

func oneSmallChunk(t *testing.T, b *bench) {
	target := b.New(t)
	o, data := b.file(t, target, key, 1)
	b.whole(t, target, o, data)
	o, data = b.file(t, target, key+"2", max(target.Limits().MinChunk, 1)) // exactly one
	b.whole(t, target, o, data)
}

func grows(t *testing.T, b *bench) {
	target := b.New(t)
	if !target.Limits().Growing {
		t.Skip("takes sealed segments only")
	}
	o, data := b.file(t, target, key, sized(target.Limits(), 3))
	growing := o
	growing.Size, growing.SHA256, growing.MaxSize = -1, segment.Sum{}, 4*o.Size
	growing.Local += segment.PartSuffix // whoever reads it himself finds nothing
	up := open(t, target, growing)
	acks := map[int]segment.Ack{}
	list := chunks(o) // 1, 2, 3 (short), 0
	put(t, up, data, acks, list[:2]...)
	b.invisible(t, o.Key)
	if _, err := target.Verify(ctx(t), o, segment.Receipt{}); err == nil {
		t.Fatal("half an object was proven")
	} else {
		isAbsent(t, "half an object", err)
	}
	put(t, up, data, acks, list[2:]...)
	b.invisible(t, o.Key)
	r := commit(t, up, o, acks)
	verify(t, target, o, r)
	b.stored(t, o.Key, data)
}

func manyChunks(t *testing.T, b *bench) {
	target := b.New(t)
	if target.Limits().MinChunk == 0 {
		t.Skip("knows no chunks")
	}
	n := b.Many
	if n == 0 {
		n = 4
	}
	o, data := b.file(t, target, key, sized(target.Limits(), n-1))
	o.Chunk = target.Limits().MinChunk
	b.whole(t, target, o, data)
}

func resumes(t *testing.T, b *bench) {
	first := b.New(t)
	o, data := b.file(t, first, key, sized(first.Limits(), 3))
	up := open(t, first, o)
	acks := map[int]segment.Ack{}
	list := chunks(o)
	half := len(list) / 2
	put(t, up, data, acks, list[:half]...)

	second := b.New(t)
	again, listed, err := second.Resume(ctx(t), o, up.Token())
	if err != nil {
		t.Fatalf("resume: %v", err)
	}
	if again.Token() != up.Token() {
		t.Fatalf("resumed %q as %q", up.Token(), again.Token())
	}
	if listed != nil {
		if len(listed) != len(acks) {
			t.Fatalf("%d chunks are listed of %d", len(listed), len(acks))
		}
		for _, a := range listed {
			if want := acks[a.Index]; a.Chunk != want.Chunk || a.Sum != want.Sum {
				t.Fatalf("chunk %d is listed as %+v and was %+v", a.Index, a, want)
			}
		}
	}
	put(t, again, data, acks, list[half:]...)
	r := commit(t, again, o, acks)
	verify(t, second, o, r)
	b.stored(t, o.Key, data)
}

func putTwice(t *testing.T, b *bench) {
	target := b.New(t)
	o, data := b.file(t, target, key, sized(target.Limits(), 2))
	up := open(t, target, o)
	acks := map[int]segment.Ack{}
	list := chunks(o)
	for range 2 {
		put(t, up, data, acks, list...)
	}
	r := commit(t, up, o, acks)
	verify(t, target, o, r)
	b.stored(t, o.Key, data)
}

func openTwice(t *testing.T, b *bench) {
	target := b.New(t)
	o, data := b.file(t, target, key, sized(target.Limits(), 2))
	if list := chunks(o); len(list) > 0 {
		put(t, open(t, target, o), data, map[int]segment.Ack{}, list[0])
	} else {
		open(t, target, o)
	}
	open(t, b.New(t), o)
	b.whole(t, b.New(t), o, data)
}

func commitTwice(t *testing.T, b *bench) {
	target := b.New(t)
	o, data := b.file(t, target, key, sized(target.Limits(), 2))
	up := open(t, target, o)
	acks := map[int]segment.Ack{}
	put(t, up, data, acks, chunks(o)...)
	commit(t, up, o, acks)

	after := b.New(t)
	verify(t, after, o, segment.Receipt{}) // the receipt was in the answer that was lost
	again, listed, err := after.Resume(ctx(t), o, up.Token())
	switch {
	case err == nil:
		// A target whose token is only a name cannot know: then nothing may be pending and a second commit is harmless.
		if listed == nil || len(listed) == len(acks) {
			commit(t, again, o, acks)
			verify(t, after, o, segment.Receipt{})
		}
	default:
		isAbsent(t, "resume of a completed upload", err)
	}
	b.stored(t, o.Key, data)
}

// lostAnswers carries an object through as transport does, with the first answer of each call lost.
func lostAnswers(t *testing.T, b *bench) {
	for _, op := range []wrap.Op{wrap.OpOpen, wrap.OpPut, wrap.OpResume, wrap.OpCommit, wrap.OpVerify, wrap.OpAbort, wrap.OpKeep} {
		t.Run(string(op), func(t *testing.T) {
			clean := b.New(t)
			o, data := b.file(t, clean, "lost-"+string(op)+"/P0001.flv", sized(clean.Limits(), 2))
			lossy := wrap.Fault(clean, func(c wrap.Call) wrap.Fate { return wrap.Fate{Lost: c.Op == op && c.Nth == 1} })
			err := lossy.Keep(ctx(t), "lost-"+string(op)+"/manifest.json", []byte("{}"))
			if err != nil {
				err = lossy.Keep(ctx(t), "lost-"+string(op)+"/manifest.json", []byte("{}"))
			}
			if err != nil {
				t.Fatalf("keep: %v", err)
			}
			up, err := lossy.Open(ctx(t), o)
			if err != nil {
				up, err = b.New(t).Open(ctx(t), o)
			}
			if err != nil {
				t.Fatalf("open: %v", err)
			}
			if op == wrap.OpAbort {
				if err := up.Abort(ctx(t)); err == nil {
					t.Fatal("the answer was not lost")
				}
				if err := up.Abort(ctx(t)); err != nil && !errors.Is(err, failure.ErrAbsent) {
					t.Fatalf("abort again: %v", err)
				}
				b.clean(t)
				return
			}
			acks := map[int]segment.Ack{}
			for _, c := range chunks(o) {
				a, err := up.Put(ctx(t), c, body(data, c))
				if err != nil {
					if a, err = up.Put(ctx(t), c, body(data, c)); err != nil {
						t.Fatalf("put again: %v", err)
					}
				}
				acks[c.Index] = a
			}
			if op == wrap.OpResume {
				for range 2 {
					again, _, err := lossy.Resume(ctx(t), o, up.Token())
					if err == nil {
						up = again
					}
				}
			}
			if _, err := up.Commit(ctx(t), o, ordered(acks)); err != nil {
				if op != wrap.OpCommit {
					t.Fatalf("commit: %v", err)
				}
				verify(t, b.New(t), o, segment.Receipt{})
			}
			if _, err := lossy.Verify(ctx(t), o, segment.Receipt{}); err != nil {
				verify(t, lossy, o, segment.Receipt{})
			}
			b.stored(t, o.Key, data)
		})
	}
}

func absent(t *testing.T, b *bench) {
	target := b.New(t)
	o, _ := b.file(t, target, key, sized(target.Limits(), 1))
	_, err := target.Verify(ctx(t), o, segment.Receipt{})
	isAbsent(t, "verify of nothing", err)
	up := open(t, target, o)
	_, err = target.Verify(ctx(t), o, segment.Receipt{})
	isAbsent(t, "verify of an upload that is open", err)
	if err := up.Abort(ctx(t)); err != nil {
		t.Fatalf("abort: %v", err)
	}
	if o.Chunk == 0 {
		return // an upload without chunks is nothing that could be absent
	}
	_, _, err = b.New(t).Resume(ctx(t), o, up.Token())
	isAbsent(t, "resume of an upload that was aborted", err)
}

func damaged(t *testing.T, b *bench) {
	target := b.New(t)
	o, data := b.file(t, target, key, sized(target.Limits(), 1))
	r := b.whole(t, target, o, data)
	longer := o
	longer.Size++
	_, err := target.Verify(ctx(t), longer, segment.Receipt{})
	isDamaged(t, "an object that is too short", err)
	if b.Damage == nil {
		t.Skip("nobody can damage it here")
	}
	b.Damage(t, o.Key)
	_, err = b.New(t).Verify(ctx(t), o, r)
	isDamaged(t, "an object with a wrong byte", err)
}

func lost(t *testing.T, b *bench) {
	if b.Lose == nil {
		t.Skip("nobody can take it away here")
	}
	target := b.New(t)
	o, data := b.file(t, target, key, sized(target.Limits(), 1))
	r := b.whole(t, target, o, data)
	b.Lose(t, o.Key)
	_, err := target.Verify(ctx(t), o, r)
	isAbsent(t, "an object that was taken away", err)
	b.whole(t, target, o, data)
}

func replaced(t *testing.T, b *bench) {
	if b.Damage == nil {
		t.Skip("nobody can damage it here")
	}
	target := b.New(t)
	o, data := b.file(t, target, key, sized(target.Limits(), 2))
	b.whole(t, target, o, data)
	b.Damage(t, o.Key)
	// A damaging that reached the local file through a link would show here: the test's own copy is what is sent.
	o, data = b.file(t, target, key, sized(target.Limits(), 2))
	up := open(t, b.New(t), o)
	acks := map[int]segment.Ack{}
	put(t, up, data, acks, chunks(o)...)
	r := commit(t, up, o, acks)
	verify(t, target, o, r)
	b.stored(t, o.Key, data)
}

func unreachable(t *testing.T, b *bench) {
	if b.Unreachable == nil {
		t.Skip("cannot be made unreachable here")
	}
	good := b.New(t)
	o, data := b.file(t, good, key, sized(good.Limits(), 1))
	target := b.Unreachable(t)
	weather := func(what string, err error) {
		t.Helper()
		switch {
		case err == nil:
			t.Errorf("%s of a target that cannot be asked succeeded", what)
		case errors.Is(err, failure.ErrAbsent), errors.Is(err, failure.ErrDamaged):
			t.Errorf("%s: \"could not ask\" became an answer (I8): %v", what, err)
		case failure.KindOf(err) != failure.Transient:
			t.Errorf("%s: %v is not %v but %v", what, err, failure.Transient, failure.KindOf(err))
		}
	}
	weather("check", target.Check(ctx(t)))
	_, err := target.Verify(ctx(t), o, segment.Receipt{})
	weather("verify", err)
	_, err = target.Recall(ctx(t), "alice/manifest.json")
	weather("recall", err)
	weather("keep", target.Keep(ctx(t), "alice/manifest.json", []byte("{}")))
	_, _, err = target.Resume(ctx(t), o, "a-token")
	if o.Chunk != 0 {
		weather("resume", err)
	}
	up, err := target.Open(ctx(t), o)
	if err == nil { // a target may open without asking
		for _, c := range chunks(o) {
			_, err = up.Put(ctx(t), c, body(data, c))
			break
		}
		if err == nil {
			_, err = up.Commit(ctx(t), o, nil)
		}
	}
	weather("open, put or commit", err)
}

func aborts(t *testing.T, b *bench) {
	target := b.New(t)
	o, data := b.file(t, target, key, sized(target.Limits(), 2))
	up := open(t, target, o)
	if list := chunks(o); len(list) > 0 {
		put(t, up, data, map[int]segment.Ack{}, list[0])
	}
	if err := up.Abort(ctx(t)); err != nil {
		t.Fatalf("abort: %v", err)
	}
	if err := up.Abort(ctx(t)); err != nil && !errors.Is(err, failure.ErrAbsent) {
		t.Fatalf("abort again: %v", err)
	}
	b.clean(t)
	b.invisible(t, o.Key)
	b.whole(t, b.New(t), o, data)
}

func hole(t *testing.T, b *bench) {
	target := b.New(t)
	o, data := b.file(t, target, key, sized(target.Limits(), 2))
	list := chunks(o)
	if len(list) == 0 {
		t.Skip("knows no chunks")
	}
	up := open(t, target, o)
	acks := map[int]segment.Ack{}
	put(t, up, data, acks, list...)
	for _, missing := range list {
		var some []segment.Ack
		for _, a := range ordered(acks) {
			if a.Index != missing.Index {
				some = append(some, a)
			}
		}
		if _, err := up.Commit(ctx(t), o, some); err == nil {
			t.Fatalf("an object without its chunk %d was completed", missing.Index)
		}
		b.invisible(t, o.Key)
	}
	r := commit(t, up, o, acks)
	verify(t, target, o, r)
	b.stored(t, o.Key, data)
}

func brokenBody(t *testing.T, b *bench) {
	target := wrap.Fault(b.New(t), func(c wrap.Call) wrap.Fate { return wrap.Fate{Cut: c.Nth == 1} })
	o, data := b.file(t, target, key, sized(target.Limits(), 2))
	list := chunks(o)
	if len(list) == 0 {
		t.Skip("reads the file itself")
	}
	up := open(t, target, o)
	acks := map[int]segment.Ack{}
	for _, c := range list {
		if a, err := up.Put(ctx(t), c, body(data, c)); err == nil {
			t.Fatalf("half of chunk %d was acknowledged: %+v", c.Index, a)
		}
		put(t, up, data, acks, c)
	}
	r := commit(t, up, o, acks)
	verify(t, target, o, r)
	b.stored(t, o.Key, data)
}

func cancelled(t *testing.T, b *bench) {
	target := b.New(t)
	o, data := b.file(t, target, key, sized(target.Limits(), 1))
	over, cancel := context.WithCancel(t.Context())
	cancel()
	answer := func(what string, err error) {
		t.Helper()
		if errors.Is(err, failure.ErrAbsent) || errors.Is(err, failure.ErrDamaged) {
			t.Errorf("%s with a context that is over became an answer (I8): %v", what, err)
		}
	}
	_, err := target.Verify(over, o, segment.Receipt{})
	if err == nil {
		t.Error("nothing was proven")
	}
	answer("verify", err)
	if o.Chunk > 0 {
		_, _, err = target.Resume(over, o, "a-token")
		answer("resume", err)
	}
	_, err = target.Recall(over, "alice/manifest.json")
	answer("recall", err)
	up := open(t, target, o)
	acks := map[int]segment.Ack{}
	for _, c := range chunks(o) {
		_, err := up.Put(over, c, body(data, c))
		answer("put", err)
		put(t, up, data, acks, c)
	}
	r := commit(t, up, o, acks)
	verify(t, target, o, r)
	b.stored(t, o.Key, data)
}

func empty(t *testing.T, b *bench) {
	target := b.New(t)
	o, _ := b.file(t, target, key, 0)
	up, err := target.Open(ctx(t), o)
	if err == nil {
		_, err = up.Commit(ctx(t), o, nil)
	}
	if err == nil {
		t.Fatal("an object without bytes was taken")
	}
	if k := failure.KindOf(err); k != failure.Permanent {
		t.Fatalf("%v is %v, not %v", err, k, failure.Permanent)
	}
	b.invisible(t, o.Key)
	b.clean(t)
}

func oddNames(t *testing.T, b *bench) {
	for _, name := range []string{
		"with space", "主播/直播 回放", "émoji 🎬", "plus+percent%41", "question?hash#", `quote'"`, "semi;amp&eq=", "a~b@c!$(d)",
		"comma,colon", "bracket[1]{2}", "dot.", strings.Repeat("é", 100), "-dash", "tilde~",
	} {
		target := b.New(t)
		k := "odd/" + name + "/P0001.flv"
		o, data := b.file(t, target, k, 1000)
		t.Run(name[:min(len(name), 12)], func(t *testing.T) { b.whole(t, target, o, data) })
		small := []byte(name)
		if err := target.Keep(ctx(t), "odd/"+name+"/manifest.json", small); err != nil {
			t.Errorf("keep in %q: %v", name, err)
			continue
		}
		if got, err := b.New(t).Recall(ctx(t), "odd/"+name+"/manifest.json"); err != nil || !bytes.Equal(got, small) {
			t.Errorf("recall from %q: %q, %v", name, got, err)
		}
	}
}

func parallel(t *testing.T, b *bench) {
	target := b.New(t)
	type job struct {
		o    segment.Object
		data []byte
	}
	var jobs []job
	for i := range 3 {
		o, data := b.file(t, target, fmt.Sprintf("many/P%04d.flv", i+1), sized(target.Limits(), 1))
		jobs = append(jobs, job{o, data})
	}
	var wg sync.WaitGroup
	for _, j := range jobs {
		wg.Go(func() {
			up, err := target.Open(t.Context(), j.o)
			if err != nil {
				t.Errorf("open %s: %v", j.o.Key, err)
				return
			}
			var mu sync.Mutex
			acks := map[int]segment.Ack{}
			var puts sync.WaitGroup
			for _, c := range chunks(j.o) {
				puts.Go(func() {
					a, err := up.Put(t.Context(), c, body(j.data, c))
					if err != nil {
						t.Errorf("put chunk %d of %s: %v", c.Index, j.o.Key, err)
					}
					mu.Lock()
					defer mu.Unlock()
					acks[c.Index] = a
				})
			}
			puts.Wait()
			r, err := up.Commit(t.Context(), j.o, ordered(acks))
			if err != nil {
				t.Errorf("commit %s: %v", j.o.Key, err)
				return
			}
			if _, err := target.Verify(t.Context(), j.o, r); err != nil {
				t.Errorf("verify %s: %v", j.o.Key, err)
			}
		})
	}
	wg.Wait()
	for _, j := range jobs {
		b.stored(t, j.o.Key, j.data)
	}
}

func smallFiles(t *testing.T, b *bench) {
	target := b.New(t)
	const name = "alice/manifest.json"
	_, err := target.Recall(ctx(t), name)
	isAbsent(t, "recall of nothing", err)
	for _, text := range []string{"first and longer than the next", "second", strings.Repeat("a large one ", 20_000)} {
		if err := target.Keep(ctx(t), name, []byte(text)); err != nil {
			t.Fatalf("keep: %v", err)
		}
		got, err := b.New(t).Recall(ctx(t), name)
		if err != nil || string(got) != text {
			t.Fatalf("recalled %d bytes of %d: %v", len(got), len(text), err)
		}
	}
	b.clean(t)
}

func smallFilesAtomic(t *testing.T, b *bench) {
	target, reader := b.New(t), b.New(t)
	const name = "alice/manifest.json"
	a, z := bytes.Repeat([]byte("a"), 100), bytes.Repeat([]byte("z"), 90_000)
	if err := target.Keep(ctx(t), name, a); err != nil {
		t.Fatalf("keep: %v", err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			got, err := reader.Recall(t.Context(), name)
			if err != nil {
				t.Errorf("recall while it is replaced: %v", err)
				return
			}
			if !bytes.Equal(got, a) && !bytes.Equal(got, z) {
				t.Errorf("saw %d bytes that nobody wrote", len(got))
				return
			}
		}
	})
	for i := range 20 {
		text := a
		if i%2 == 0 {
			text = z
		}
		if err := target.Keep(ctx(t), name, text); err != nil {
			t.Errorf("keep: %v", err)
			break
		}
	}
	close(stop)
	wg.Wait()
	b.clean(t)
}

func limits(t *testing.T, b *bench) {
	target := b.New(t)
	l := target.Limits()
	if target.ID() == "" || target.ID() != b.New(t).ID() {
		t.Errorf("the name %q is not the same in every process", target.ID())
	}
	if l.Parallel < 1 {
		t.Errorf("takes %d chunks at once", l.Parallel)
	}
	if l.MinChunk == 0 {
		if l.Growing {
			t.Error("takes whole segments only and segments that grow")
		}
		return
	}
	if l.MaxChunk < l.MinChunk || l.MaxChunks < 1 {
		t.Errorf("these limits allow nothing: %+v", l)
	}
}
