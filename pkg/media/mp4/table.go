package mp4

import "math"

// entry is a sample in the table of a track: 12 bytes.
type entry struct {
	size  uint32 // top bit: key
	delta uint32 // ticks to the next sample; of the last one not filled in
	shift int32
}

const keyBit = 1 << 31

// chunk is the samples of a track in one fragment: 16 bytes.
type chunk struct {
	offset int64
	n      uint32
}

const blockLen = 2048

// table is what the index of a track is made of. It grows by blocks, so that no sample costs a copy of those before it.
type table struct {
	blocks []*[blockLen]entry
	n      int64
	chunks []chunk

	// What the size of the index depends on, kept while samples come.
	deltaRuns, shiftRuns, chunkRuns, keys int64
	delta                                 uint32 // the last that is known
	shift                                 int32
	shifted                               bool // a shift is not 0
	size                                  uint32
	mixed                                 bool // not all samples are of one size
}

func (t *table) at(i int64) *entry { return &t.blocks[i/blockLen][i%blockLen] }

// add appends a sample; delta is how far it is behind the one before.
func (t *table) add(delta uint32, size uint32, shift int32, key bool) {
	if t.n > 0 {
		t.at(t.n - 1).delta = delta
		if t.n == 1 || delta != t.delta {
			t.deltaRuns++
		}
		t.delta = delta
		if size != t.size {
			t.mixed = true
		}
	}
	if t.n == 0 || shift != t.shift {
		t.shiftRuns++
	}
	t.shift, t.shifted, t.size = shift, t.shifted || shift != 0, size
	if t.n%blockLen == 0 {
		t.blocks = append(t.blocks, new([blockLen]entry))
	}
	if key {
		t.keys++
		size |= keyBit
	}
	*t.at(t.n) = entry{size: size, shift: shift}
	t.n++
}

func (t *table) addChunk(offset int64, n uint32) {
	if len(t.chunks) == 0 || t.chunks[len(t.chunks)-1].n != n {
		t.chunkRuns++
	}
	t.chunks = append(t.chunks, chunk{offset, n})
}

// runs is how many entries the stts has when the last sample lasts so long.
func (t *table) runs(last uint32) int64 {
	if t.n == 1 || t.n > 1 && last != t.delta {
		return t.deltaRuns + 1
	}
	return t.deltaRuns
}

func (t *table) syncs() bool { return t.keys < t.n }

// stblLen is the length of the stbl box; pending samples are those that no chunk holds yet.
func (t *table) stblLen(entryLen int64, last uint32, pending int64) int64 {
	chunks, chunkRuns := int64(len(t.chunks)), t.chunkRuns
	if pending > 0 {
		if chunks == 0 || int64(t.chunks[chunks-1].n) != pending {
			chunkRuns++
		}
		chunks++
	}
	n := 8 + 16 + entryLen + 16 + 8*t.runs(last) + 16 + 12*chunkRuns + 20 + 16 + 8*chunks
	if t.shifted {
		n += 16 + 8*t.shiftRuns
	}
	if t.n > 0 && t.syncs() {
		n += 16 + 4*t.keys
	}
	if t.mixed {
		n += 4 * t.n
	}
	return n
}

// appendStbl appends the whole stbl box. Every sample must be in a chunk.
func (t *table) appendStbl(b []byte, appendEntry func([]byte) []byte, last uint32) []byte {
	b, stbl := open(b, "stbl")
	b, at := openFull(b, "stsd", 0, 0)
	b = be.AppendUint32(b, 1)
	b = shut(appendEntry(b), at)

	b, at = openFull(b, "stts", 0, 0)
	b = be.AppendUint32(b, uint32(t.runs(last)))
	if t.n > 0 {
		t.at(t.n - 1).delta = last
	}
	b = shut(t.appendRuns(b, func(e *entry) uint32 { return e.delta }), at)

	if t.shifted {
		b, at = openFull(b, "ctts", 1, 0)
		b = be.AppendUint32(b, uint32(t.shiftRuns))
		b = shut(t.appendRuns(b, func(e *entry) uint32 { return uint32(e.shift) }), at)
	}
	if t.n > 0 && t.syncs() {
		b, at = openFull(b, "stss", 0, 0)
		b = be.AppendUint32(b, uint32(t.keys))
		for i := range t.n {
			if t.at(i).size&keyBit != 0 {
				b = be.AppendUint32(b, uint32(i+1))
			}
		}
		b = shut(b, at)
	}

	b, at = openFull(b, "stsc", 0, 0)
	b = be.AppendUint32(b, uint32(t.chunkRuns))
	before := uint32(math.MaxUint32)
	for i, c := range t.chunks {
		if c.n != before {
			b = be.AppendUint32(b, uint32(i+1))
			b = be.AppendUint32(b, c.n)
			b = be.AppendUint32(b, 1)
			before = c.n
		}
	}
	b = shut(b, at)

	b, at = openFull(b, "stsz", 0, 0)
	if t.mixed || t.n == 0 {
		b = be.AppendUint32(b, 0)
	} else {
		b = be.AppendUint32(b, t.size)
	}
	b = be.AppendUint32(b, uint32(t.n))
	if t.mixed {
		for i := range t.n {
			b = be.AppendUint32(b, t.at(i).size&^keyBit)
		}
	}
	b = shut(b, at)

	b, at = openFull(b, "co64", 0, 0)
	b = be.AppendUint32(b, uint32(len(t.chunks)))
	for _, c := range t.chunks {
		b = be.AppendUint64(b, uint64(c.offset))
	}
	return shut(shut(b, at), stbl)
}

func (t *table) appendRuns(b []byte, value func(*entry) uint32) []byte {
	var v, n uint32
	for i := range t.n {
		x := value(t.at(i))
		if n > 0 && x != v {
			b = be.AppendUint32(be.AppendUint32(b, n), v)
			n = 0
		}
		v = x
		n++
	}
	if n > 0 {
		b = be.AppendUint32(be.AppendUint32(b, n), v)
	}
	return b
}
