package flv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrBadScript says that script data cannot be understood. The stream goes on without it.
var ErrBadScript = errors.New("script data cannot be understood")

func badScript(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadScript, fmt.Sprintf(format, args...))
}

// ValueType is the marker of an AMF0 value.
type ValueType byte

// The types of values.
const (
	Number      ValueType = 0
	Boolean     ValueType = 1
	String      ValueType = amfString
	Object      ValueType = 3
	Null        ValueType = 5
	Undefined   ValueType = 6
	Reference   ValueType = 7
	ECMAArray   ValueType = 8
	StrictArray ValueType = 10
	Date        ValueType = 11
	LongString  ValueType = 12
	Unsupported ValueType = 13
	XML         ValueType = 15
	TypedObject ValueType = 16
)

const (
	amfString = 2
	amfEnd    = 9

	amfDepth  = 32      // of nested values; deeper is refused
	amfValues = 1 << 17 // in one script: a value of one byte takes a hundred in memory
)

// Value is one AMF0 value.
type Value struct {
	Type   ValueType
	Number float64    // Number, Boolean (0 or 1), Date (ms since 1970), Reference (index)
	Zone   int16      // Date: minutes
	Text   string     // String, LongString, XML, the class of a TypedObject; any bytes
	Props  []Property // Object, ECMAArray, TypedObject, in their order
	Elems  []Value    // StrictArray
}

// Property is a named value.
type Property struct {
	Name  string
	Value Value
}

// amfReader reads foreign bytes: nothing is believed that the remaining bytes cannot hold.
type amfReader struct {
	b []byte
	n int // values so far
}

// value reads one value. It takes memory in proportion to the bytes that are really there.
func (r *amfReader) value(depth int) (Value, error) {
	if depth > amfDepth {
		return Value{}, badScript("nested deeper than %d", amfDepth)
	}
	if r.n++; r.n > amfValues {
		return Value{}, badScript("more than %d values", amfValues)
	}
	m, err := r.take(1)
	if err != nil {
		return Value{}, err
	}
	v := Value{Type: ValueType(m[0])}
	switch v.Type {
	case Number:
		v.Number, err = r.number()
	case Boolean:
		var b []byte
		if b, err = r.take(1); err == nil && b[0] != 0 {
			v.Number = 1
		}
	case String:
		v.Text, err = r.text(2)
	case LongString, XML:
		v.Text, err = r.text(4)
	case Null, Undefined, Unsupported:
	case Reference:
		var b []byte
		if b, err = r.take(2); err == nil {
			v.Number = float64(binary.BigEndian.Uint16(b))
		}
	case Date:
		if v.Number, err = r.number(); err == nil {
			var b []byte
			if b, err = r.take(2); err == nil {
				v.Zone = int16(binary.BigEndian.Uint16(b))
			}
		}
	case TypedObject:
		if v.Text, err = r.text(2); err == nil {
			v.Props, err = r.props(depth)
		}
	case ECMAArray:
		if _, err = r.take(4); err == nil { // the count is a hint, and often wrong
			v.Props, err = r.props(depth)
		}
	case Object:
		v.Props, err = r.props(depth)
	case StrictArray:
		var b []byte
		if b, err = r.take(4); err != nil {
			break
		}
		n := int(binary.BigEndian.Uint32(b))
		if n > len(r.b) { // an element takes at least a byte
			return v, badScript("an array claims %d elements in %d bytes", n, len(r.b))
		}
		for range n {
			var e Value
			if e, err = r.value(depth + 1); err != nil {
				break
			}
			v.Elems = append(v.Elems, e)
		}
	default:
		err = badScript("type %d", m[0])
	}
	return v, err
}

// props reads named values up to the end mark. Where the mark is missing, the end of the data ends them too.
func (r *amfReader) props(depth int) ([]Property, error) {
	var out []Property
	for len(r.b) > 0 {
		if len(r.b) >= 3 && r.b[0] == 0 && r.b[1] == 0 && r.b[2] == amfEnd {
			r.b = r.b[3:]
			return out, nil
		}
		name, err := r.text(2)
		if err != nil {
			return out, err
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return out, err
		}
		out = append(out, Property{name, v})
	}
	return out, nil
}

func (r *amfReader) take(n int) ([]byte, error) {
	if n > len(r.b) {
		return nil, badScript("%d bytes are missing", n-len(r.b))
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b, nil
}

func (r *amfReader) number() (float64, error) {
	b, err := r.take(8)
	if err != nil {
		return 0, err
	}
	return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
}

// text reads a string behind a length of size bytes.
func (r *amfReader) text(size int) (string, error) {
	b, err := r.take(size)
	if err != nil {
		return "", err
	}
	n := int(b[len(b)-2])<<8 | int(b[len(b)-1])
	if size == 4 {
		n = int(binary.BigEndian.Uint32(b))
	}
	if b, err = r.take(n); err != nil {
		return "", err
	}
	return string(b), nil
}

func appendNumber(dst []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, byte(Number)), math.Float64bits(v))
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, byte(Boolean), 1)
	}
	return append(dst, byte(Boolean), 0)
}

// appendName appends the name of a property, or a string without its marker. It must be below 64 KiB.
func appendName(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

func appendString(dst []byte, s string) []byte { return appendName(append(dst, amfString), s) }

// appendValue appends v; ok is false for what cannot be said again: references, classes, what is too long or too deep.
func appendValue(dst []byte, v Value, depth int) (out []byte, ok bool) {
	if depth > amfDepth {
		return dst, false
	}
	switch v.Type {
	case Number:
		return appendNumber(dst, v.Number), true
	case Boolean:
		return appendBool(dst, v.Number != 0), true
	case String:
		if len(v.Text) > math.MaxUint16 {
			return dst, false
		}
		return appendString(dst, v.Text), true
	case Null, Undefined:
		return append(dst, byte(v.Type)), true
	case Date:
		dst = appendNumber(dst, v.Number)
		dst[len(dst)-9] = byte(Date)
		return binary.BigEndian.AppendUint16(dst, uint16(v.Zone)), true
	case Object, ECMAArray:
		dst = append(dst, byte(v.Type))
		if v.Type == ECMAArray {
			dst = binary.BigEndian.AppendUint32(dst, uint32(len(v.Props)))
		}
		for _, p := range v.Props {
			if len(p.Name) == 0 || len(p.Name) > math.MaxUint16 {
				return dst, false
			}
			if dst, ok = appendValue(appendName(dst, p.Name), p.Value, depth+1); !ok {
				return dst, false
			}
		}
		return append(dst, 0, 0, amfEnd), true
	case StrictArray:
		dst = binary.BigEndian.AppendUint32(append(dst, byte(v.Type)), uint32(len(v.Elems)))
		for _, e := range v.Elems {
			if dst, ok = appendValue(dst, e, depth+1); !ok {
				return dst, false
			}
		}
		return dst, true
	}
	return dst, false
}

// Metadata is what onMetaData says, in its order.
type Metadata struct {
	Props []Property
}

const onMetaData = "onMetaData"

// ParseMetadata reads the body of a script tag. It takes the frequent deviations: @setDataFrame in front, an object in
// place of an array, wrong counts, missing end marks, more values behind. Where the data breaks off, what came before
// is kept and the error (ErrBadScript) says so. A script with another name is ErrBadScript.
func ParseMetadata(body []byte) (Metadata, error) {
	r := &amfReader{b: body}
	name, err := r.value(0)
	if err == nil && name.Type == String && name.Text == "@setDataFrame" {
		name, err = r.value(0)
	}
	if err != nil {
		return Metadata{}, err
	}
	if name.Type != String || name.Text != onMetaData {
		if len(name.Text) > 64 {
			name.Text = name.Text[:64]
		}
		return Metadata{}, badScript("it is %q, not %s", name.Text, onMetaData)
	}
	if len(r.b) == 0 {
		return Metadata{}, nil
	}
	v, err := r.value(0)
	return Metadata{Props: v.Props}, err
}

// Get finds the first property of that name.
func (m Metadata) Get(name string) (Value, bool) {
	for _, p := range m.Props {
		if p.Name == name {
			return p.Value, true
		}
	}
	return Value{}, false
}

// Number gives a numeric property.
func (m Metadata) Number(name string) (float64, bool) {
	v, ok := m.Get(name)
	return v.Number, ok && v.Type == Number
}
