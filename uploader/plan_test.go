package uploader

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/liverec/liverec/pkg/segment"
)

const (
	mib = int64(1) << 20
	gib = int64(1) << 30
	tib = int64(1) << 40
)

// s3 are the limits of the best known store.
var s3 = Limits{MinChunk: 5 * mib, MaxChunk: 5 * gib, MaxChunks: 10_000, Parallel: 16, Growing: true}

func TestChunkSize(t *testing.T) {
	last := 9_999 * 5 * mib // the largest object in chunks of the smallest size that does not meet the limit
	for _, c := range []struct {
		name      string
		l         Limits
		size, max int64
		want      int64
		refused   bool
	}{
		{"whole segments", Limits{Parallel: 1}, 10, 10, 0, false},
		{"smaller than a chunk", s3, 1, 1, 5 * mib, false},
		{"open, the usual largest part", s3, -1, 4 * gib, 5 * mib, false},
		{"open, unknown largest part", s3, -1, 0, 5 * mib, false},
		{"one below the limit", s3, last - 5*mib, 0, 5 * mib, false},
		{"one below the limit, all whole", s3, last, 0, 5 * mib, false},
		{"would be at the limit", s3, last + 1, 0, 5*mib + roundTo, false},
		{"would be above the limit", s3, last + 5*mib + 1, 0, 5*mib + roundTo, false},
		{"5 TiB", s3, 5 * tib, 0, 0, false},
		{"open, can grow to 5 TiB", s3, -1, 5 * tib, 0, false},
		{"limit met since nothing else is possible", Limits{MinChunk: 1, MaxChunk: 10, MaxChunks: 3}, 30, 0, 10, false},
		{"too large", Limits{MinChunk: 1, MaxChunk: 10, MaxChunks: 3}, 31, 0, 0, true},
		{"one chunk only", Limits{MinChunk: 1, MaxChunk: 100, MaxChunks: 1}, 77, 0, 77, false},
		{"no limit of chunks", Limits{MinChunk: 7}, 1 << 50, 0, 7, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ChunkSize(c.l, c.size, c.max)
			if (err != nil) != c.refused {
				t.Fatalf("error %v", err)
			}
			if c.want != 0 && got != c.want {
				t.Errorf("%d, not %d", got, c.want)
			}
			if size := max(c.size, c.max); err == nil && c.l.MaxChunks > 1 && c.want != 10 && ceil(size, got) >= int64(c.l.MaxChunks) {
				t.Errorf("%d bytes in chunks of %d meet the limit of %d chunks", size, got, c.l.MaxChunks)
			}
		})
	}
}

func TestChunkSizeNeverMeetsALimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Limits{
			MinChunk:  rapid.Int64Range(1, 10*mib).Draw(t, "MinChunk"),
			MaxChunks: rapid.IntRange(1, 20_000).Draw(t, "MaxChunks"),
		}
		l.MaxChunk = rapid.Int64Range(l.MinChunk, 6*gib).Draw(t, "MaxChunk")
		size := rapid.Int64Range(1, 6*tib).Draw(t, "size")
		chunk, err := ChunkSize(l, size, 0)
		if err != nil {
			if ceil(size, l.MaxChunk) <= int64(l.MaxChunks) {
				t.Fatalf("refused although %d chunks of %d are enough", ceil(size, l.MaxChunk), l.MaxChunk)
			}
			return
		}
		if chunk < l.MinChunk || chunk > l.MaxChunk {
			t.Fatalf("chunk of %d", chunk)
		}
		n := ceil(size, chunk)
		if n > int64(l.MaxChunks) || n == int64(l.MaxChunks) && chunk < l.MaxChunk && l.MaxChunks > 1 {
			t.Fatalf("%d chunks of %d", n, chunk)
		}
	})
}

func none(int) bool { return false }

func set(list ...int) func(int) bool {
	return func(i int) bool { return slices.Contains(list, i) }
}

func TestI2_PlanOffersWhatCannotChange(t *testing.T) {
	for _, c := range []struct {
		name     string
		p        plan
		has, off func(int) bool
		want     int // -1: nothing
		length   int64
	}{
		{"open, not one chunk", plan{chunk: 10, size: 9, head: 3}, none, none, -1, 0},
		{"open, only the head chunk", plan{chunk: 10, size: 19, head: 3}, none, none, -1, 0},
		{"open, the second is whole", plan{chunk: 10, size: 20, head: 3}, none, none, 1, 10},
		{"open, all away", plan{chunk: 10, size: 25, head: 3}, set(1), none, -1, 0},
		{"open, no head", plan{chunk: 10, size: 25}, set(1), none, -1, 0},
		{"open, head reaches into the second", plan{chunk: 10, size: 35, head: 11}, none, none, 2, 10},
		{"sealed, the short one", plan{chunk: 10, size: 25, head: 3, sealed: true}, set(1), none, 2, 5},
		{"sealed, head after all others", plan{chunk: 10, size: 25, head: 3, sealed: true}, set(1, 2), none, 0, 10},
		{"sealed, head waits for one in flight", plan{chunk: 10, size: 25, head: 3, sealed: true}, set(1), set(2), -1, 0},
		{"sealed, head in flight", plan{chunk: 10, size: 25, sealed: true}, set(1, 2), set(0), -1, 0},
		{"sealed, one small chunk", plan{chunk: 10, size: 5, head: 5, sealed: true}, none, none, 0, 5},
		{"sealed, exactly one chunk", plan{chunk: 10, size: 10, head: 5, sealed: true}, none, none, 0, 10},
		{"sealed, all away", plan{chunk: 10, size: 20, sealed: true}, set(0, 1), none, -1, 0},
		{"sealed, empty", plan{chunk: 10, sealed: true}, none, none, -1, 0},
		{"one that waits is passed over", plan{chunk: 10, size: 35, sealed: true}, none, set(1), 2, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := c.p.next(c.has, c.off)
			if !ok {
				got.Index = -1
			}
			if got.Index != c.want || got.Length != c.length {
				t.Errorf("chunk %d of %d bytes, not %d of %d", got.Index, got.Length, c.want, c.length)
			}
		})
	}
}

func TestI2_PlanSendsEachByteOnceTheHeadLast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 2000).Draw(t, "size")
		p := plan{chunk: rapid.Int64Range(1, 300).Draw(t, "chunk"), head: rapid.Int64Range(0, size).Draw(t, "head")}
		sent := map[int]bool{}
		var bytes int64
		last := -1
		for {
			c, ok := p.next(func(i int) bool { return sent[i] }, none)
			if !ok {
				if p.sealed {
					break
				}
				if p.size == size {
					p.sealed = true
				}
				p.size = min(size, p.size+rapid.Int64Range(1, 200).Draw(t, "more"))
				continue
			}
			if sent[c.Index] || c.Length <= 0 || c.Offset+c.Length > p.size {
				t.Fatalf("chunk %+v of %d bytes", c, p.size)
			}
			if !p.sealed && (c.Offset < p.head || c.Index == 0) {
				t.Fatalf("chunk %+v goes before the seal", c)
			}
			sent[c.Index] = true
			bytes += c.Length
			last = c.Index
		}
		if bytes != size || last != 0 || !p.complete(func(i int) bool { return sent[i] }) {
			t.Fatalf("%d of %d bytes, chunk %d last", bytes, size, last)
		}
	})
}

func TestUnion(t *testing.T) {
	p := plan{chunk: 10, size: 45, sealed: true}
	ack := func(i int, sum uint32) segment.Ack { return segment.Ack{Chunk: p.at(i), Sum: sum, Tag: "t"} }
	short := ack(1, 1)
	short.Length = 9
	tagged := ack(1, 0)
	foreign := segment.Ack{Chunk: segment.Chunk{Index: 7, Offset: 70, Length: 10}, Sum: 7}
	for _, c := range []struct {
		name         string
		ours, listed []segment.Ack
		kept, found  []segment.Ack
		lost         []int
	}{
		{"cannot list", []segment.Ack{ack(1, 1)}, nil, []segment.Ack{ack(1, 1)}, nil, nil},
		{"cannot list, an ack that does not fit", []segment.Ack{foreign, short}, nil, nil, nil, []int{7, 1}},
		{"lists nothing", []segment.Ack{ack(1, 1), ack(2, 2)}, []segment.Ack{}, nil, nil, []int{1, 2}},
		{"agrees", []segment.Ack{ack(1, 1)}, []segment.Ack{ack(1, 1)}, []segment.Ack{ack(1, 1)}, nil, nil},
		{"another sum", []segment.Ack{ack(1, 1)}, []segment.Ack{ack(1, 5)}, nil, nil, []int{1}},
		{"another length", []segment.Ack{ack(1, 1)}, []segment.Ack{short}, nil, nil, []int{1}},
		{"no sum but the tag", []segment.Ack{ack(1, 1)}, []segment.Ack{tagged}, []segment.Ack{ack(1, 1)}, nil, nil},
		{"has one whose answer was lost", nil, []segment.Ack{ack(3, 3), foreign}, nil, []segment.Ack{ack(3, 3)}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			kept, found, lost := union(p, c.ours, c.listed)
			if d := cmp.Diff(c.kept, kept); d != "" {
				t.Error("kept", d)
			}
			if d := cmp.Diff(c.found, found); d != "" {
				t.Error("found", d)
			}
			if d := cmp.Diff(c.lost, lost); d != "" {
				t.Error("lost", d)
			}
		})
	}
}

func FuzzPlan(f *testing.F) {
	f.Add(int64(100), int64(10), int64(3), true)
	f.Add(int64(99), int64(100), int64(99), false)
	f.Fuzz(func(t *testing.T, size, chunk, head int64, sealed bool) {
		if size < 0 || chunk < 0 || size > 1<<40 || chunk > 0 && size/chunk > 10_000 {
			return
		}
		p := plan{chunk: chunk, size: size, head: head, sealed: sealed}
		var end int64
		for i := range p.count() {
			c := p.at(i)
			if c.Offset != end || c.Length <= 0 || !p.fits(c) {
				t.Fatalf("chunk %+v after %d", c, end)
			}
			end += c.Length
		}
		if chunk > 0 && (sealed && end != size || !sealed && size-end >= chunk) {
			t.Fatalf("chunks cover %d of %d", end, size)
		}
		if c, ok := p.next(none, none); ok && !sealed && c.Offset < head {
			t.Fatalf("%+v is offered before the seal", c)
		}
	})
}
