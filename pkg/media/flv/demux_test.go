package flv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/liverec/liverec/pkg/media"
)

// everywhere reads b in all ways, fails if one gives something else, and returns what they gave.
func everywhere(t *testing.T, b []byte) result {
	t.Helper()
	first := demux(t, bytes.NewReader(b))
	for name, r := range readers(b, 1) {
		if diff := differ(first, demux(t, r)); diff != "" {
			t.Fatalf("read in another way (%s):\n%s", name, diff)
		}
	}
	if first.Count.Received != int64(len(b)) && first.Err == nil {
		t.Fatalf("%d of %d bytes are accounted for", first.Count.Received, len(b))
	}
	return first
}

func kinds(es []Event) (out []EventKind) {
	for _, e := range es {
		out = append(out, e.Kind)
	}
	return out
}

func TestDemuxWhole(t *testing.T) {
	fs := append(heads(), frames(1, 300, 50)...)
	b := stream(fs...)
	res := everywhere(t, b)
	same(t, res.Packets, fs)
	want := media.Count{Received: int64(len(b)), Header: 13, Tags: int64(len(b) - 13)}
	if res.Count != want || res.Err != nil || len(res.Events) != 0 {
		t.Fatalf("count %+v, error %v, events %v", res.Count, res.Err, kinds(res.Events))
	}
	p := res.Packets
	if p[0].Kind != media.Script || p[1].Kind != media.VideoConfig || p[1].Codec != media.AVC ||
		p[2].Kind != media.AudioConfig || p[2].Codec != media.AAC || p[3].Kind != media.Video || !p[3].Key || p[4].Kind != media.Audio {
		t.Fatalf("the first packets are %v", p[:5])
	}
}

// damage of every row of the catalogue, between two stretches of good frames.
func TestDemuxFraming(t *testing.T) {
	good := append(heads(), frames(2, 20, 10)...)
	tail := frames(4, 20, 10)
	all := append(slices.Clone(good), tail...)
	noise := rand.New(rand.NewPCG(9, 9))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(noise.Uint32())
		}
		return b
	}
	tags := func(fs []frame) (b []byte) {
		for _, f := range fs {
			b = f.append(b)
		}
		return b
	}
	patched := func(b []byte, at int, v ...byte) []byte {
		b = slices.Clone(b)
		copy(b[at:], v)
		return b
	}
	trailers := func(v func(size int) uint32) []byte {
		b := stream()
		for _, f := range all {
			b = f.append(b)
			binary.BigEndian.PutUint32(b[len(b)-4:], v(len(f.body)))
		}
		return b
	}
	big := videoBody(noise, true, 0, 5<<20)
	between := func(b []byte) []byte { return slices.Concat(stream(good...), b, tags(tail)) }
	tests := map[string]struct {
		in     []byte
		want   []frame // that must come out, in order; those without a type may be anything
		junk   int64
		header int64
		events []EventKind
	}{
		"F1 no file header": {tags(all), all, 0, 0, []EventKind{EventJoined}},
		"F1 joined in the middle of a tag": {tags(all)[20:], all[1:], int64(len(heads()[0].append(nil)) - 20), 0,
			[]EventKind{EventJoined, EventJunk}},
		"F2 flags and version wrong": {patched(stream(all...), 3, 7, 0xFA), all, 0, 13, nil},
		"F3 DataOffset 20":           {slices.Concat([]byte("FLV\x01\x05\x00\x00\x00\x14"), make([]byte, 11+4), tags(all)), all, 0, 24, nil},
		"F3 DataOffset 4 GiB":        {patched(stream(all...), 5, 0xFF, 0xFF, 0xFF, 0xFF), all, 0, 13, nil},
		"F3 DataOffset 0":            {patched(stream(all...), 5, 0, 0, 0, 0), all, 0, 13, nil},
		"F3 no PreviousTagSize0":     {slices.Concat(stream()[:9], tags(all)), all, 0, 9, nil},
		"F4 first PreviousTagSize":   {patched(stream(all...), 9, 1, 2, 3, 4), all, 0, 13, []EventKind{EventTrailer}},
		"F4 all zero":                {trailers(func(int) uint32 { return 0 }), all, 0, 13, []EventKind{EventTrailer}},
		"F4 without header":          {trailers(func(n int) uint32 { return uint32(n) }), all, 0, 13, []EventKind{EventTrailer}},
		"F4 random":                  {trailers(func(int) uint32 { return noise.Uint32() }), all, 0, 13, []EventKind{EventTrailer}},
		"F5 three bytes":             {between([]byte{0xC1, 0x09, 0xFF}), all, 3, 13, []EventKind{EventJunk}},
		"F5 a zero":                  {between([]byte{0}), all, 1, 13, []EventKind{EventJunk}},
		"F5 HTML":                    {between([]byte(strings.Repeat("<p>502 Bad Gateway</p>\n", 9))), all, 207, 13, []EventKind{EventJunk}},
		"F5 100 kB of noise":         {between(random(100_000)), all, 100_000, 13, []EventKind{EventJunk}},
		"F5 1000 zeros":              {between(make([]byte, 1000)), all, 1000, 13, []EventKind{EventJunk}},
		"F5 a lone tag header":       {between(AppendTagHeader(nil, TagVideo, 5, 700)), nil, -1, 13, nil},
		"F7 filter bit":              {between(AppendTag(nil, TagVideo|filterBit, 1, random(50))), nil, 0, 13, []EventKind{EventFiltered}},
		"F8 empty bodies":            {between(slices.Concat(AppendTag(nil, TagVideo, 1, nil), AppendTag(nil, TagAudio, 1, nil))), nil, 0, 13, nil},
		"F8 short bodies": {between(slices.Concat(AppendTag(nil, TagVideo, 1, []byte{0x17, 1, 0, 0}), AppendTag(nil, TagAudio, 1, []byte{0xAF}),
			AppendTag(nil, TagVideo, 1, []byte{0x27}))), nil, 0, 13, nil},
		"F9 a real body of 5 MiB": {between(AppendTag(nil, TagVideo, 1, big)), nil, 0, 13, nil},
		"F9 15 MiB claimed": {between(slices.Concat(AppendTagHeader(nil, TagVideo, 5, 15<<20), []byte{0x17, 1, 0, 0, 0})),
			all, 16, 13, []EventKind{EventJunk}},
		"F9 3 MiB claimed": {between(slices.Concat(AppendTagHeader(nil, TagVideo, 5, 3<<20), []byte{0x17, 1, 0, 0, 0})),
			all, 16, 13, []EventKind{EventJunk}},
		"F11 unknown type":      {between(AppendTag(nil, 15, 1, random(300))), nil, 0, 13, []EventKind{EventUnknownTag}},
		"F11 unknown and large": {between(AppendTag(nil, 16, 1, random(300_000))), nil, 0, 13, []EventKind{EventUnknownTag}},
		"F11 unknown and wrong": {between(AppendTagHeader(nil, 16, 1, 1<<20)), all, 11, 13, []EventKind{EventJunk}},
		"F6 junk, then a file header": {between(slices.Concat([]byte("oops"), stream(good[:3]...))),
			nil, 4, 26, []EventKind{EventJunk, EventRestart}},
		"a StreamID": {func() []byte {
			b := stream(all...)
			for at := 13; at < len(b); at += bodySize(b[at:]) + 15 {
				b[at+8], b[at+9], b[at+10] = 1, 2, 3
			}
			return b
		}(), all, 0, 13, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			res := everywhere(t, tc.in)
			if res.Err != nil {
				t.Fatal(res.Err)
			}
			if tc.want != nil {
				same(t, res.Packets, tc.want)
			} else {
				// The good frames on both sides must have survived.
				got := res.Packets
				same(t, got[:len(good)], good)
				same(t, got[len(got)-len(tail):], tail)
			}
			if tc.junk >= 0 && res.Count.Junk != tc.junk {
				t.Errorf("%d bytes of junk, want %d", res.Count.Junk, tc.junk)
			}
			if res.Count.Header != tc.header {
				t.Errorf("%d bytes of headers, want %d", res.Count.Header, tc.header)
			}
			if tc.junk >= 0 {
				if diff := cmp.Diff(tc.events, kinds(res.Events)); diff != "" {
					t.Errorf("events: %s", diff)
				}
			}
		})
	}
}

func TestDemuxRestart(t *testing.T) { // F6
	one, two := append(heads(), frames(5, 10, 5)...), append(heads(), frames(6, 10, 5)...)
	res := everywhere(t, slices.Concat(stream(one...), stream(two...)))
	if len(res.Packets) != len(one)+1+len(two) {
		t.Fatalf("%d packets, want %d", len(res.Packets), len(one)+1+len(two))
	}
	if res.Packets[len(one)].Kind != media.Restart || res.Count.Junk != 0 || res.Count.Header != 26 || res.Stats.Restarts != 1 {
		t.Fatalf("kind %v, count %+v, stats %+v", res.Packets[len(one)].Kind, res.Count, res.Stats)
	}
	same(t, slices.Delete(slices.Clone(res.Packets), len(one), len(one)+1), append(slices.Clone(one), two...))
}

func TestDemuxKinds(t *testing.T) {
	b := stream(frame{TagVideo, 0, nil}, frame{TagAudio, 0, nil}, frame{TagVideo, 1, []byte{0x17, 1, 0, 0}},
		frame{TagAudio, 1, []byte{0xAF}}, frame{TagVideo, 1, []byte{0x57, 0}}, frame{15, 1, []byte("abc")}, frame{TagVideo, 2, []byte{0x17, 2}},
		frame{TagVideo, 2, []byte{0x27, 2, 0, 0, 0}}, frame{TagVideo | filterBit, 2, []byte("xyz")}, frame{TagScript, 2, scriptBody(1)})
	res := everywhere(t, b)
	var got []media.Kind
	for _, p := range res.Packets {
		got = append(got, p.Kind)
	}
	i, e, s := media.Invalid, media.EndMark, media.Script
	if diff := cmp.Diff([]media.Kind{i, i, i, i, i, i, e, e, i, s}, got); diff != "" {
		t.Fatal(diff)
	}
	if res.Stats.Empty != 2 || res.Stats.Unknown != 1 || res.Stats.Filtered != 1 {
		t.Fatalf("stats %+v", res.Stats)
	}
}

func TestDemuxTail(t *testing.T) { // F10: cut at every byte
	fs := append(heads(), frames(7, 4, 2)...)
	b := stream(fs...)
	ends := []int{13}
	for _, f := range fs {
		ends = append(ends, ends[len(ends)-1]+len(f.body)+15)
	}
	for cut := range len(b) + 1 {
		whole := 0
		for whole+1 < len(ends) && ends[whole+1] <= cut {
			whole++
		}
		for name, r := range map[string]io.Reader{"whole": bytes.NewReader(b[:cut]), "half": iotest.HalfReader(bytes.NewReader(b[:cut]))} {
			res := demux(t, r)
			same(t, res.Packets, fs[:whole])
			want := media.Count{Received: int64(cut), Header: 13, Tags: int64(ends[whole] - 13), Partial: int64(cut - ends[whole])}
			if cut < 13 {
				want = media.Count{Received: int64(cut), Partial: int64(cut)}
			}
			if res.Count != want || res.Err != nil {
				t.Fatalf("cut at %d, %s: count %+v, want %+v, error %v", cut, name, res.Count, want, res.Err)
			}
		}
	}
}

func TestDemuxSplitAtEveryByte(t *testing.T) {
	noise := rand.New(rand.NewPCG(1, 1))
	junk := make([]byte, 100)
	for i := range junk {
		junk[i] = byte(noise.Uint32())
	}
	fs := append(heads(), frames(8, 1, 2)...)
	b := slices.Concat(stream(fs...), junk, stream(fs...), AppendTag(nil, 15, 1, junk), stream(fs...)[13:])
	want := demux(t, bytes.NewReader(b))
	first, thin := some(7)
	for at := first; at < len(b); at += thin {
		got := demux(t, io.MultiReader(bytes.NewReader(b[:at]), bytes.NewReader(b[at:])))
		if diff := differ(want, got); diff != "" {
			t.Fatalf("split at %d:\n%s", at, diff)
		}
	}
}

func TestDemuxTimestamps(t *testing.T) {
	var fs []frame
	for _, ts := range []uint32{0, 0xFFFFFF, 0x1000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 4_000_000_000, 0xFFFFEC78} {
		fs = append(fs, frame{TagVideo, ts, videoBody(rand.New(rand.NewPCG(1, 1)), true, 0, 30)})
	}
	res := everywhere(t, stream(fs...))
	var got []int64
	for _, p := range res.Packets {
		got = append(got, p.DTS)
	}
	if diff := cmp.Diff([]int64{0, 0xFFFFFF, 0x1000000, 0x7FFFFFFF, -0x80000000, -1, 4_000_000_000 - 1<<32, -5000}, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestDemuxContent(t *testing.T) { // T4
	for name, tc := range map[string]struct {
		in   string
		want Content
	}{
		"HTML":     {"<html><body>403 Forbidden</body></html>", HTMLContent},
		"JSON":     {`{"code":404,"message":"no such stream"}`, JSONContent},
		"playlist": {"\xEF\xBB\xBF\r\n#EXTM3U\n#EXT-X-VERSION:3\n", HLSContent},
		"text":     {"stream not found\n", TextContent},
		"long":     {"<!DOCTYPE html>" + strings.Repeat("<p>sorry</p>\n", 1000), HTMLContent},
		"TS":       {strings.Repeat("\x47"+strings.Repeat("\x00", 187), 9), MPEGTSContent},
		"MP4":      {"\x00\x00\x00\x18ftypisom" + strings.Repeat("\x00", 600), MP4Content},
	} {
		for how, r := range readers([]byte(tc.in), 3) {
			res := demux(t, r)
			var ce *ContentError
			if !errors.As(res.Err, &ce) || ce.Content != tc.want || !strings.HasPrefix(tc.in, string(ce.Head)) || len(ce.Head) > SniffLen {
				t.Fatalf("%s, %s: %v", name, how, res.Err)
			}
			if res.Count.Junk != res.Count.Received || len(res.Packets) != 0 {
				t.Fatalf("%s, %s: count %+v", name, how, res.Count)
			}
		}
	}
	if res := demux(t, bytes.NewReader(nil)); res.Err != nil || res.Count != (media.Count{}) {
		t.Fatalf("nothing: %+v", res)
	}
}

func TestSniff(t *testing.T) {
	for in, want := range map[string]Content{
		"": EmptyContent, " \r\n": EmptyContent, "FLV\x01": FLVContent, "FLV": FLVContent, "#EXTM3U": HLSContent, "\n #EXTM3U8": HLSContent,
		"[1]": JSONContent, "\t<?xml": HTMLContent, "\x09\x00\x00\x10\x00\x00\x00": UnknownContent, "\x47\x40\x11": UnknownContent, "nope": TextContent,
		"<\x00\x01\x02": UnknownContent, "\x00\x00\x00\x18styp": MP4Content, "<p>\xB2\xBB\xB4\xE6</p>": HTMLContent,
	} {
		if got := Sniff([]byte(in)); got != want {
			t.Errorf("%q is %v, want %v", in, got, want)
		}
	}
}

func TestDemuxLostSync(t *testing.T) {
	noise := rand.New(rand.NewPCG(3, 3))
	junk := make([]byte, 3<<20)
	for i := range junk {
		junk[i] = byte(noise.Uint32())
	}
	fs := append(heads(), frames(1, 5, 5)...)
	for _, tail := range [][]byte{junk, make([]byte, 3<<20), bytes.Repeat([]byte{8}, 3<<20)} {
		res := demux(t, bytes.NewReader(append(stream(fs...), tail...)))
		same(t, res.Packets[:len(fs)], fs)
		if tail[0] == 8 { // this does look like tags of half a megabyte whose PreviousTagSize is wrong
			continue
		}
		if !errors.Is(res.Err, ErrLostSync) {
			t.Fatalf("error %v", res.Err)
		}
		if last := res.Events[len(res.Events)-1]; last.Kind != EventJunk || last.Bytes != res.Count.Junk || !bytes.Equal(last.Head, tail[:junkHead]) {
			t.Fatalf("event %+v", last)
		}
	}
}

func TestDemuxEncrypted(t *testing.T) { // F7
	b := stream()
	for i := range 60 {
		b = AppendTag(b, TagVideo|filterBit, uint32(i), []byte("secret"))
	}
	res := demux(t, bytes.NewReader(b))
	if !errors.Is(res.Err, ErrFiltered) || len(res.Packets) != maxFiltered || len(res.Events) != 2 {
		t.Fatalf("error %v after %d packets, events %v", res.Err, len(res.Packets), kinds(res.Events))
	}
}

func TestDemuxFalseClaimCostsLittle(t *testing.T) {
	// 16 MiB are claimed, 305 bytes are there, and the connection stays open.
	b := slices.Concat(stream(heads()...), AppendTagHeader(nil, TagVideo, 0, media.MaxBody), make([]byte, 305))
	b[len(b)-305] = 0x17
	d := NewDemuxer(DemuxerConfig{})
	before := media.InUse()
	r := iotest.OneByteReader(io.MultiReader(bytes.NewReader(b), iotest.ErrReader(io.ErrUnexpectedEOF)))
	for {
		batch, err := d.Fill(r)
		if err != nil {
			break
		}
		batch.Release()
		if held := media.InUse() - before; held > media.SlabSize {
			t.Fatalf("%d bytes are held", held)
		}
	}
	d.Close().Release()
}

func TestDemuxLargeTagTravelsAlone(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	small := frames(1, 30, 10)
	big := frame{TagVideo, 40_000, videoBody(r, true, 0, 3<<20)}
	b := stream(slices.Concat(small, []frame{big}, small)...)
	d := NewDemuxer(DemuxerConfig{})
	rd := &pieces{b, func() int { return 100_000 }}
	for {
		batch, err := d.Fill(rd)
		if err != nil {
			break
		}
		if len(batch.Bytes()) > media.SlabSize && len(batch.Packets) != 1 {
			t.Fatalf("a batch of %d bytes holds %d packets", len(batch.Bytes()), len(batch.Packets))
		}
		batch.Release()
	}
	if d.Close() != nil || d.Stats().Packets != int64(2*len(small)+1) {
		t.Fatalf("stats %+v", d.Stats())
	}
}

func TestDemuxReaderErrors(t *testing.T) {
	b := stream(heads()...)
	broken := errors.New("connection reset")
	res := demux(t, io.MultiReader(bytes.NewReader(b[:len(b)-3]), iotest.ErrReader(broken)))
	if !errors.Is(res.Err, broken) || len(res.Packets) != 2 {
		t.Fatalf("%v after %d packets", res.Err, len(res.Packets))
	}
	d := NewDemuxer(DemuxerConfig{})
	if _, err := d.Fill(&stuck{}); !errors.Is(err, io.ErrNoProgress) {
		t.Fatalf("a reader that gives nothing: %v", err)
	}
	d.Close()
	if _, err := d.Fill(bytes.NewReader(b)); err == nil {
		t.Fatal("a closed demuxer reads on")
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

func TestDemuxAnnexB(t *testing.T) { // C8
	annexB := []byte{0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x67, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 1, 0x65, 9, 9, 9, 9}
	lengths := []byte{0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x09, 0, 0, 0, 3, 0x65, 9, 9}
	res := everywhere(t, stream(frame{TagVideo, 0, videoConfig}, frame{TagVideo, 0, lengths}, frame{TagVideo, 40, annexB}, frame{TagVideo, 80, annexB}))
	if res.Stats.AnnexB != 2 || len(res.Events) != 1 || res.Events[0].Kind != EventAnnexB {
		t.Fatalf("stats %+v, events %v", res.Stats, kinds(res.Events))
	}
}

// TestDemuxGoFLVRows holds the inputs on which the fixed library fails (libraries.md 1.3): here each is a packet or
// nothing, and the good tag behind it is always found.
func TestDemuxGoFLVRows(t *testing.T) {
	sentinel := []frame{{TagVideo, 40, videoBody(rand.New(rand.NewPCG(1, 1)), true, -80, 100)}, {TagAudio, 40, audioBody(rand.New(rand.NewPCG(1, 1)), 50)}}
	script := func(b ...byte) frame { return frame{TagScript, 0, append(appendString(nil, onMetaData), b...)} }
	nested := func(open string, n int) []byte { return []byte(strings.Repeat(open, n)) }
	rows := map[string][]frame{
		"empty audio":            {{TagAudio, 0, nil}},
		"empty video":            {{TagVideo, 0, nil}},
		"57 bytes":               {script(0x0A, 0x7F, 0xFF, 0xFF, 0xFF)},
		"100 M entries":          {script(0x0A, 0x05, 0xF5, 0xE1, 0x00)},
		"nested strict arrays":   {script(nested("\x0A\x00\x00\x00\x01", 1<<20)...)},
		"nested objects":         {script(nested("\x03\x00\x01a", 1<<20)...)},
		"undefined":              {script(6)},
		"long string":            {script(0x0C, 0, 0, 0, 1, 'x')},
		"reference":              {script(7, 0, 1)},
		"XML":                    {script(0x0F, 0, 0, 0, 1, 'x')},
		"typed object":           {script(0x10, 0, 1, 'c', 0, 0, 9)},
		"AMF3 switch":            {script(0x11, 1)},
		"date":                   {script(0x0B, 0x42, 0x77, 0, 0, 0, 0, 0, 0, 0, 60)},
		"GBK":                    {script(8, 0, 0, 0, 1, 0, 2, 0xD6, 0xD0, 2, 0, 2, 0xCE, 0xC4, 0, 0, 9)},
		"@setDataFrame":          {{TagScript, 0, append(appendString(nil, "@setDataFrame"), scriptBody(25)...)}},
		"name and number":        {script(0, 0, 0, 0, 0, 0, 0, 0, 0)},
		"trailing end mark":      {{TagScript, 0, append(scriptBody(25), 0, 0, 9)}},
		"missing end mark":       {{TagScript, 0, scriptBody(25)[:len(scriptBody(25))-3]}},
		"AAC of 1 byte":          {{TagAudio, 0, []byte{0xAF}}},
		"AVC of 4 bytes":         {{TagVideo, 0, []byte{0x27, 1, 0, 0}}},
		"command frame":          {{TagVideo, 0, []byte{0x57, 0}}},
		"ModEx under 5 bytes":    {{TagVideo, 0, []byte{0x97, 1, 2}}},
		"type 15":                {{15, 0, []byte{0, 2, 0, 1, 'x'}}},
		"filter bit":             {{TagAudio | filterBit, 0, []byte{1, 2, 3}}},
		"HEVC 12":                {{TagVideo, 0, []byte{0x1C, 0, 0, 0, 0, 1}}, {TagVideo, 0, []byte{0x1C, 1, 0, 0, 9, 0, 0, 0, 1, 0x26}}},
		"AV1 13":                 {{TagVideo, 0, []byte{0x1D, 1, 0, 0, 9, 0x12, 0}}},
		"hvc1":                   {{TagVideo, 0, []byte("\x90hvc1\x01")}, {TagVideo, 0, []byte("\x93hvc1\x00\x00\x00\x01\x26")}},
		"av01 multitrack":        {{TagVideo, 0, []byte("\x96\x01av01\x00\x12\x00")}},
		"Opus":                   {{TagAudio, 0, []byte("\x91Opus\xFC")}},
		"unknown audio format":   {{TagAudio, 0, []byte{0xBF, 1, 2}}},
		"MP3":                    {{TagAudio, 0, []byte{0x2F, 0xFF, 0xFB}}},
		"negative CTS, late DTS": {{TagVideo, 0x01234567, videoBody(rand.New(rand.NewPCG(2, 2)), false, -40, 10)}},
	}
	for name, fs := range rows {
		t.Run(name, func(t *testing.T) {
			all := append(slices.Clone(fs), sentinel...)
			b := stream(all...)
			res := demux(t, bytes.NewReader(b))
			same(t, res.Packets, all)
			if len(b) < 4096 {
				if diff := differ(res, demux(t, iotest.OneByteReader(bytes.NewReader(b)))); diff != "" {
					t.Fatal(diff)
				}
			}
			n := len(res.Packets)
			if v := res.Packets[n-2]; v.Kind != media.Video || !v.Key || v.CTS != -80 {
				t.Fatalf("the sentinel is %+v", v)
			}
			for _, f := range fs { // must end, whatever it says
				if f.typ == TagScript {
					_, _ = ParseMetadata(f.body)
				}
			}
		})
	}
}

// TestDemuxIndependentOfReads is the property behind all of the above, over random damage.
func TestDemuxIndependentOfReads(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := damaged(rapid.Uint64().Draw(rt, "seed"))
		seed := rapid.Uint64().Draw(rt, "reads")
		want := demux(t, bytes.NewReader(b))
		r := rand.New(rand.NewPCG(seed, 1))
		most := 1 + r.IntN(5000)
		got := demux(t, &pieces{b, func() int { return 1 + r.IntN(most) }})
		if diff := differ(want, got); diff != "" {
			rt.Fatal(diff)
		}
	})
}

// damaged is a stream with random damage.
func damaged(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 5))
	b := stream(append(heads(), frames(seed, 3+r.IntN(20), 5)...)...)
	if r.IntN(4) == 0 {
		b = b[13:]
	}
	for range r.IntN(6) {
		at := r.IntN(len(b))
		switch r.IntN(6) {
		case 0: // a byte changed
			b[at] ^= byte(1 + r.IntN(255))
		case 1: // bytes lost
			b = slices.Delete(b, at, min(len(b), at+1+r.IntN(40)))
		case 2: // bytes too many
			junk := make([]byte, r.IntN(200))
			for i := range junk {
				junk[i] = [...]byte{8, 9, 18, 0, 'F', byte(r.Uint32())}[r.IntN(6)]
			}
			b = slices.Insert(b, at, junk...)
		case 3: // another push
			b = slices.Insert(b, at, stream(frames(seed+1, 1, 1)...)...)
		case 4: // a piece again
			b = slices.Insert(b, at, slices.Clone(b[max(0, at-r.IntN(2000)):at])...)
		case 5: // a false header
			b = slices.Insert(b, at, append(AppendTagHeader(nil, [...]byte{8, 9, 18, 15}[r.IntN(4)], 0, r.IntN(1<<20)), 0x17)...)
		}
		if len(b) == 0 {
			break
		}
	}
	return b
}

// TestDemuxLosesOnlyWhatIsDamaged: bytes put between tags cost no tag, a byte changed in a body costs at most one.
func TestDemuxLosesOnlyWhatIsDamaged(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		fs := append(heads(), frames(r.Uint64(), 5+r.IntN(20), 5)...)
		hurt := 4 + r.IntN(len(fs)-8)
		junk := make([]byte, 1+r.IntN(2000))
		for i := range junk {
			junk[i] = byte(r.Uint32())
		}
		junk[0] |= 0x40 // not what could be a tag of an unknown type
		b := slices.Concat(stream(fs[:hurt]...), junk, stream(fs[hurt:]...)[13:])
		res := demux(t, bytes.NewReader(b))
		if len(res.Packets) != len(fs) || res.Count.Junk != int64(len(junk)) {
			rt.Fatalf("%d of %d packets, %d of %d bytes of junk", len(res.Packets), len(fs), res.Count.Junk, len(junk))
		}
		same(t, res.Packets, fs)
	})
}

func FuzzDemuxer(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(damaged(seed), uint16(seed*100+1))
	}
	f.Add([]byte("<html>"), uint16(1))
	f.Add(stream(), uint16(3))
	f.Fuzz(func(t *testing.T, in []byte, most uint16) {
		want := demux(t, bytes.NewReader(in))
		got := demux(t, &pieces{in, func() int { return int(most) + 1 }})
		if want.Err != nil && errors.Is(want.Err, ErrLostSync) {
			return // how much was read by then depends on the reader
		}
		var a, b *ContentError
		if errors.As(want.Err, &a) && errors.As(got.Err, &b) && a.Content == b.Content {
			return // here too
		}
		if diff := differ(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestStrings(t *testing.T) {
	for k := EventJunk; k <= EventFalseKey; k++ {
		if fmt.Sprint(k) == "" {
			t.Errorf("event %d has no name", k)
		}
	}
	for c := UnknownContent; c <= TextContent; c++ {
		if fmt.Sprint(c) == "" {
			t.Errorf("content %d has no name", c)
		}
	}
}

func TestNoAllocationPerTag(t *testing.T) {
	if raceDetector {
		return
	}
	d := NewDemuxer(DemuxerConfig{})
	r := io.MultiReader(bytes.NewReader(stream(heads()...)), &loop{b: busy(1)})
	read := func() {
		b, err := d.Fill(r)
		if err != nil {
			t.Fatal(err)
		}
		b.Release()
	}
	for range 50 {
		read()
	}
	before := d.Stats().Packets
	allocs := testing.AllocsPerRun(200, read)
	tags := float64(d.Stats().Packets-before) / 201
	if allocs/tags > 0.05 {
		t.Fatalf("%.1f allocations for %.1f tags", allocs, tags)
	}
}
