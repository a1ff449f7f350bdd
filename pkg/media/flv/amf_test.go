package flv

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseMetadata(t *testing.T) {
	full := append(appendString(nil, onMetaData), 8, 0, 0, 0, 99) // the count is wrong
	full = appendNumber(appendName(full, "width"), 1920)
	full = appendBool(appendName(full, "stereo"), true)
	full = append(appendName(full, "o"), 3)
	full = append(appendName(full, "in"), 10, 0, 0, 0, 2, 5, 6)
	full = append(full, 0, 0, 9)
	full = append(appendName(full, "long"), 12, 0, 0, 0, 2, 'h', 'i')
	full = append(appendName(full, "date"), 11, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xC4)
	want := []Property{
		{"width", Value{Type: Number, Number: 1920}},
		{"stereo", Value{Type: Boolean, Number: 1}},
		{"o", Value{Type: Object, Props: []Property{{"in", Value{Type: StrictArray, Elems: []Value{{Type: Null}, {Type: Undefined}}}}}}},
		{"long", Value{Type: LongString, Text: "hi"}},
		{"date", Value{Type: Date, Zone: -60}},
	}
	end := []byte{0, 0, 9}
	for name, b := range map[string][]byte{
		"as it should be":   append(full[:len(full):len(full)], end...),
		"no end mark":       full,
		"half an end mark":  full,
		"@setDataFrame":     append(append(appendString(nil, "@setDataFrame"), full...), end...),
		"null behind":       append(append(full[:len(full):len(full)], end...), 5),
		"end mark behind":   append(append(full[:len(full):len(full)], end...), end...),
		"rubbish behind it": append(append(full[:len(full):len(full)], end...), 0xFF, 0xFF),
	} {
		m, err := ParseMetadata(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(want, m.Props); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	m, _ := ParseMetadata(full)
	if w, ok := m.Number("width"); !ok || w != 1920 {
		t.Errorf("width %v %v", w, ok)
	}
	if _, ok := m.Number("stereo"); ok {
		t.Error("a boolean is no number")
	}
	if _, ok := m.Get("height"); ok {
		t.Error("there is no height")
	}
	for cut := range full { // what came before the break is kept
		m, err := ParseMetadata(full[:cut])
		for i, p := range m.Props {
			if p.Value.Type == Object && i == len(m.Props)-1 {
				continue // may be half of it
			}
			if d := cmp.Diff(want[i], p); d != "" {
				t.Errorf("cut at %d: %s", cut, d)
			}
		}
		if err != nil && !errors.Is(err, ErrBadScript) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

func TestAMFLimits(t *testing.T) {
	name := appendString(nil, onMetaData)
	for what, b := range map[string][]byte{
		"57 bytes":          append(name[:len(name):len(name)], 10, 0x7F, 0xFF, 0xFF, 0xFF),
		"all but 2^32":      append(name[:len(name):len(name)], 10, 0xFF, 0xFF, 0xFF, 0xFF, 5, 5, 5),
		"nested arrays":     append(name[:len(name):len(name)], strings.Repeat("\x0A\x00\x00\x00\x01", 3<<20)...),
		"nested objects":    append(name[:len(name):len(name)], strings.Repeat("\x03\x00\x01a", 4<<20)...),
		"a long string":     append(name[:len(name):len(name)], 12, 0xFF, 0xFF, 0xFF, 0xFF),
		"another name":      appendString(nil, "onCuePoint"),
		"no name":           {0, 1, 2, 3, 4, 5, 6, 7, 8},
		"nothing":           {},
		"millions of nulls": append(append(name[:len(name):len(name)], 10, 0, 0xF0, 0, 0), bytes.Repeat([]byte{5}, 0xF00000)...),
		"an unknown marker": append(name[:len(name):len(name)], 0x11),
	} {
		allocs := testing.AllocsPerRun(1, func() {
			if _, err := ParseMetadata(b); !errors.Is(err, ErrBadScript) {
				t.Errorf("%s: %v", what, err)
			}
		})
		if allocs > 500 {
			t.Errorf("%s: %v allocations", what, allocs)
		}
	}
}

func randomValue(r *rand.Rand, depth int) Value {
	switch n := r.IntN(9); {
	case n == 0:
		return Value{Type: Boolean, Number: float64(r.IntN(2))}
	case n == 1:
		return Value{Type: String, Text: strings.Repeat("é", r.IntN(5))}
	case n == 2:
		return Value{Type: Null}
	case n == 3:
		return Value{Type: Date, Number: 1e12, Zone: int16(r.IntN(100) - 50)}
	case n <= 5 && depth < 5:
		v := Value{Type: [...]ValueType{Object, ECMAArray}[n-4]}
		for i := range r.IntN(4) {
			v.Props = append(v.Props, Property{strings.Repeat("k", i+1), randomValue(r, depth+1)})
		}
		return v
	case n == 6 && depth < 5:
		v := Value{Type: StrictArray}
		for range r.IntN(4) {
			v.Elems = append(v.Elems, randomValue(r, depth+1))
		}
		return v
	}
	return Value{Type: Number, Number: float64(r.IntN(1000))}
}

func TestAMFRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		v := randomValue(r, 0)
		b, ok := appendValue(nil, v, 0)
		if !ok {
			t.Fatalf("cannot write %+v", v)
		}
		rd := &amfReader{b: b}
		got, err := rd.value(0)
		if err != nil || len(rd.b) != 0 {
			t.Fatalf("%v, %d bytes left", err, len(rd.b))
		}
		if d := cmp.Diff(v, got); d != "" {
			t.Fatal(d)
		}
	}
	for _, v := range []Value{{Type: Reference}, {Type: TypedObject}, {Type: LongString}, {Type: XML}, {Type: String, Text: strings.Repeat("x", 1<<16)},
		{Type: Object, Props: []Property{{"", Value{Type: Null}}}}, {Type: StrictArray, Elems: []Value{{Type: Reference}}}} {
		if _, ok := appendValue(nil, v, 0); ok {
			t.Errorf("wrote type %d", v.Type)
		}
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add(scriptBody(25))
	f.Add(append(appendString(nil, onMetaData), 10, 0x7F, 0xFF, 0xFF, 0xFF))
	f.Add([]byte(string(appendString(nil, "@setDataFrame")) + string(scriptBody(1))))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMetadata(b)
		if err != nil && !errors.Is(err, ErrBadScript) {
			t.Fatal(err)
		}
		extras, n := encodeExtras(m, extraRoom)
		if len(extras) > extraRoom || n > len(m.Props) {
			t.Fatalf("%d bytes, %d of %d properties", len(extras), n, len(m.Props))
		}
		rd := &amfReader{b: append(extras, 0, 0, 9)}
		props, err := rd.props(0)
		if err != nil || len(props) != n || len(rd.b) != 0 {
			t.Fatalf("what was kept cannot be read: %v", err)
		}
	})
}
