package flv_test

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/liverec/liverec/pkg/media/flv"
)

func TestParseColour(t *testing.T) {
	text := func(s string) string { return string(binary.BigEndian.AppendUint16(nil, uint16(len(s)))) + s }
	number := func(name string, n float64) string {
		return text(name) + "\x00" + string(binary.BigEndian.AppendUint64(nil, math.Float64bits(n)))
	}
	info := func(of string) string {
		return "\x02" + text("colorInfo") + "\x03" + text("colorConfig") + "\x03" + of + "\x00\x00\x09\x00\x00\x09"
	}
	full := info(number("bitDepth", 10) + number("colorPrimaries", 9) + number("transferCharacteristics", 16) + number("matrixCoefficients", 9))
	for _, c := range []struct {
		name, body string
		want       flv.Colour
		ok         bool
	}{
		{"HDR10", full, flv.Colour{Primaries: 9, Transfer: 16, Matrix: 9}, true},
		{"HDR10 that breaks off", full[:len(full)-8], flv.Colour{}, false},
		{"one of them", info(number("matrixCoefficients", 0)), flv.Colour{Primaries: 2, Transfer: 2, Matrix: 0}, true},
		{"what cannot be", info(number("colorPrimaries", 9.5) + number("transferCharacteristics", 1e9) + number("matrixCoefficients", -1)), flv.Colour{}, false},
		{"nothing", info(number("bitDepth", 8)), flv.Colour{}, false},
		{"taken back", "\x02" + text("colorInfo") + "\x06", flv.Colour{}, false},
		{"another name", "\x02" + text("somethingElse") + "\x03" + number("colorPrimaries", 9) + "\x00\x00\x09", flv.Colour{}, false},
		{"no bytes", "", flv.Colour{}, false},
	} {
		if got, ok := flv.ParseColour([]byte(c.body)); got != c.want || ok != c.ok {
			t.Errorf("%s: %+v, %v", c.name, got, ok)
		}
	}
}
