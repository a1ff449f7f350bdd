package mp4

import (
	"github.com/liverec/liverec/pkg/media"
)

// appendType appends the ftyp box.
func (w *Writer) appendType(b []byte) []byte {
	b, at := open(b, "ftyp")
	b = append(b, "isom\x00\x00\x02\x00isomiso6mp41"...)
	if v := w.lanes[0]; v != nil && v.track.Codec == media.AV1 {
		b = append(b, "av01"...)
	}
	return shut(b, at)
}

// appendHead appends what a file begins with. Its length does not depend on what settle found.
func (w *Writer) appendHead(b []byte) []byte {
	b = w.appendType(b)
	b, at := open(b, "free")
	b = shut(zeros(b, placeholderLen-8), at)
	b = w.appendMoov(b, false)

	// Players ignore the content of a free box. It holds what Scan needs to give times as they were given to Add, and as
	// many zeros as the edit lists could still take.
	b, at = open(b, "free")
	b = append(b, slackName...)
	b = append(b, 0, 0, 0, 1)
	slack := headSlack - 8 - slackLen
	for _, l := range w.lanes {
		if l == nil {
			b = be.AppendUint64(b, 0)
			continue
		}
		b = be.AppendUint64(b, uint64(l.origin))
		slack -= int(l.opening.length())
	}
	return shut(zeros(b, slack), at)
}

func (e edit) length() int64 {
	switch {
	case e.empty > 0:
		return 8 + 16 + 2*20
	case e.start > 0:
		return 8 + 16 + 20
	}
	return 0
}

func (e edit) append(b []byte, lasts int64) []byte {
	if e.length() == 0 {
		return b
	}
	b, edts := open(b, "edts")
	b, at := openFull(b, "elst", 1, 0)
	n := uint32(1)
	if e.empty > 0 {
		n = 2
	}
	b = be.AppendUint32(b, n)
	if e.empty > 0 {
		b = be.AppendUint64(b, uint64(e.empty))
		b = be.AppendUint64(b, 1<<64-1)
		b = append(b, 0, 1, 0, 0)
	}
	b = be.AppendUint64(b, uint64(lasts))
	b = be.AppendUint64(b, uint64(e.start))
	b = append(b, 0, 1, 0, 0)
	return shut(shut(b, at), edts)
}

// closing is the edit list of the last moov, whose tables begin at the first sample: what in the first moov, or in the
// tfdt of the first fragment, said where that is.
func (l *lane) closing() edit {
	if l.n == 0 {
		return edit{}
	}
	start := max(l.firstShift, 0)
	late := rescale(l.first-l.origin+start-l.opening.start, l.scale, movieScale)
	return edit{empty: max(l.opening.empty+late, 0), start: start}
}

// shown is how long a track is shown, in ticks of the movie, rounded up so that the last frame is never cut.
func (l *lane) shown() int64 {
	if l.n == 0 {
		return 0
	}
	n := max(l.end-l.first-l.closing().start, 0)
	m := rescale(n, l.scale, movieScale)
	if duration(m, movieScale) < duration(n, l.scale) {
		m++
	}
	return m
}

var unity = [9]uint32{1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30}

func appendMatrix(b []byte) []byte {
	for _, v := range unity {
		b = be.AppendUint32(b, v)
	}
	return b
}

// appendMoov appends the moov of a growing file, or that of a closed one.
func (w *Writer) appendMoov(b []byte, final bool) []byte {
	b, moov := open(b, "moov")
	var lasts int64
	if final {
		for _, l := range w.lanes {
			if l != nil {
				lasts = max(lasts, l.closing().empty+l.shown())
			}
		}
	}
	b, at := openFull(b, "mvhd", 1, 0)
	b = zeros(b, 16) // no dates: the same media gives the same bytes
	b = be.AppendUint32(b, movieScale)
	b = be.AppendUint64(b, uint64(lasts))
	b = append(b, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0) // rate and volume 1
	b = zeros(b, 8)
	b = appendMatrix(b)
	b = zeros(b, 24)
	b = shut(be.AppendUint32(b, 3), at)
	for _, l := range w.lanes {
		if l != nil && (!final || w.lists(l)) {
			b = l.appendTrak(b, final)
		}
	}
	if !final {
		var mvex int
		b, mvex = open(b, "mvex")
		for _, l := range w.lanes {
			if l == nil {
				continue
			}
			b, at = openFull(b, "trex", 0, 0)
			b = be.AppendUint32(b, l.id)
			b = be.AppendUint32(b, 1)
			b = zeros(b, 8) // how long and how large: each fragment says it
			b = shut(be.AppendUint32(b, l.flags()), at)
		}
		b = shut(b, mvex)
	}
	return shut(b, moov)
}

// lists tells whether the index of a closed file has a track. One that never came is left out: players wait for it.
func (w *Writer) lists(l *lane) bool {
	v, a := w.Frames()
	return l.n > 0 || v+a == 0
}

const (
	tkhdLen = 104
	mdhdLen = 44
	hdlrLen = 8 + 24 + 1
	dinfLen = 8 + 16 + 12
)

// trakLen is the length of the last moov's trak, or a little more.
func (l *lane) trakLen() int64 {
	header := int64(16) // smhd
	if l.video {
		header = 20
	}
	return 8 + tkhdLen + edit{empty: 1}.length() + 8 + mdhdLen + hdlrLen + 8 + header + dinfLen +
		l.stblLen(int64(len(l.entry)), uint32(l.lasts), int64(len(l.open)))
}

func (l *lane) appendTrak(b []byte, final bool) []byte {
	e, shown, lasts, stbl := l.opening, int64(0), int64(0), &table{}
	if final {
		e, shown, stbl = l.closing(), l.shown(), &l.table
		if l.n > 0 {
			lasts = l.last + l.lasts - l.first
		}
	}
	b, trak := open(b, "trak")
	b, at := openFull(b, "tkhd", 1, 3) // enabled, in the movie
	b = zeros(b, 16)
	b = be.AppendUint32(b, l.id)
	b = zeros(b, 4)
	if l.n > 0 && final {
		b = be.AppendUint64(b, uint64(e.empty+shown))
	} else {
		b = zeros(b, 8)
	}
	b = zeros(b, 8)
	if l.video {
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	} else {
		b = append(b, 0, 0, 0, 1, 1, 0, 0, 0) // alternate group, volume
	}
	b = appendMatrix(b)
	b = be.AppendUint32(b, uint32(l.track.Width)<<16)
	b = be.AppendUint32(b, uint32(l.track.Height)<<16)
	b = shut(b, at)
	b = e.append(b, shown)

	b, mdia := open(b, "mdia")
	b, at = openFull(b, "mdhd", 1, 0)
	b = zeros(b, 16)
	b = be.AppendUint32(b, l.track.Timescale)
	b = be.AppendUint64(b, uint64(lasts))
	b = shut(append(b, 0x55, 0xC4, 0, 0), at) // language not told
	b, at = openFull(b, "hdlr", 0, 0)
	b = zeros(b, 4)
	if l.video {
		b = append(b, "vide"...)
	} else {
		b = append(b, "soun"...)
	}
	b = shut(zeros(b, 13), at)
	b, minf := open(b, "minf")
	if l.video {
		b, at = openFull(b, "vmhd", 0, 1)
		b = shut(zeros(b, 8), at)
	} else {
		b, at = openFull(b, "smhd", 0, 0)
		b = shut(zeros(b, 4), at)
	}
	b, dinf := open(b, "dinf")
	b, at = openFull(b, "dref", 0, 0)
	b = be.AppendUint32(b, 1)
	b, url := openFull(b, "url ", 0, 1) // in this file
	b = shut(shut(shut(b, url), at), dinf)
	b = stbl.appendStbl(b, func(b []byte) []byte { return append(b, l.entry...) }, uint32(l.lasts))
	return shut(shut(shut(b, minf), mdia), trak)
}
