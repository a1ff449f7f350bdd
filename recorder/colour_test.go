package recorder

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/mp4"
	"github.com/liverec/liverec/recorder/repair"
)

// What an Enhanced FLV stream says of its colours stands in the head of its part.
func TestColoursOfHead(t *testing.T) {
	nal := func(s string) [][]byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return [][]byte{b}
	}
	record, err := codec.BuildHVCC(nal("40010c01ffff01600000030090000003000003003f959809"),
		nal("42010101600000030090000003000003003fa00a080b9f796566924caf010000030001000003001e08"), nal("4401c172b46240"))
	if err != nil {
		t.Fatal(err)
	}
	number := func(name string, n float64) string {
		return "\x00" + string(byte(len(name))) + name + "\x00" + string(binary.BigEndian.AppendUint64(nil, math.Float64bits(n)))
	}
	said := "\x02\x00\x09colorInfo\x03\x00\x0bcolorConfig\x03" + number("colorPrimaries", 9) + number("transferCharacteristics", 18) +
		number("matrixCoefficients", 9) + "\x00\x00\x09\x00\x00\x09"
	for colour, want := range map[string]mp4.Colour{said: {Primaries: 9, Transfer: 18, Matrix: 9}, "": {}} {
		f, err := newFragments(ContainerMP4, newConfigs(repair.Configs{Video: media.Packet{Kind: media.VideoConfig, Codec: media.HEVC, Body: record}, Colour: []byte(colour)}))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.muxer.add(&repair.Item{Packet: media.Packet{Kind: media.Video, Codec: media.HEVC, Key: true, Body: []byte{0, 0, 0, 3, 0x26, 1, 0x88}}}, time.Second); err != nil {
			t.Fatal(err)
		}
		in, err := mp4.ParseInit(f.Head())
		if err != nil || len(in.Tracks) != 1 || in.Tracks[0].Colour != want {
			t.Errorf("%+v, %v; want %+v", in, err, want)
		}
	}
}
