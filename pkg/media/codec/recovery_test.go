package codec_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
)

// A recovery point is found behind other messages of the same SEI unit, however many escapes are in them.
func TestRecoveryPointBehindOthers(t *testing.T) {
	for _, payload := range [][]byte{
		{}, {1}, {0, 0, 0}, {0, 0, 1, 0, 0, 2, 0, 0, 3}, {0, 0, 0, 0, 0, 0}, {7, 0, 0, 0}, {0, 0}, {3, 0, 0, 3, 0, 0},
		bytes.Repeat([]byte{0}, 1000), bytes.Repeat([]byte{0, 0, 3, 9}, 333), bytes.Repeat([]byte{5}, 70_000),
	} {
		raw := []byte{5}
		n := len(payload)
		raw = append(raw, bytes.Repeat([]byte{0xFF}, n/255)...)
		raw = append(append(raw, byte(n%255)), payload...)
		raw = append(raw, 6, 1, 0xC4, 0x80)
		var au []byte
		for _, nal := range [][]byte{append([]byte{6}, escape(raw)...), intra} {
			au = append(binary.BigEndian.AppendUint32(au, uint32(len(nal))), nal...)
		}
		if key, open := codec.Key(media.AVC, 4, au); !key || !open {
			t.Errorf("not found behind %d bytes % x", n, payload[:min(n, 12)])
		}
		without := slices.Clone(raw)
		without[len(without)-4] = 7
		au = au[:0]
		for _, nal := range [][]byte{append([]byte{6}, escape(without)...), intra} {
			au = append(binary.BigEndian.AppendUint32(au, uint32(len(nal))), nal...)
		}
		if key, _ := codec.Key(media.AVC, 4, au); key {
			t.Errorf("found where there is none, behind %d bytes % x", n, payload[:min(n, 12)])
		}
	}
}

func escape(b []byte) (out []byte) {
	zeros := 0
	for _, c := range b {
		if zeros >= 2 && c <= 3 {
			out, zeros = append(out, 3), 0
		}
		if out = append(out, c); c == 0 {
			zeros++
		} else {
			zeros = 0
		}
	}
	return out
}
