package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

var errTorn = errors.New("torn script data")

// amf reads AMF0. Nothing that it allocates is larger than what is left of its bytes.
type amf struct {
	b     []byte
	depth int
}

// readScript reads the name of a script tag and the value behind it.
func readScript(b []byte) (string, map[string]any, error) {
	a := &amf{b: b}
	name, err := a.value()
	if err != nil {
		return "", nil, err
	}
	s, ok := name.(string)
	if !ok {
		return "", nil, fmt.Errorf("the name is a %T", name)
	}
	v, err := a.value()
	if err != nil {
		return s, nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return s, nil, fmt.Errorf("the value is a %T", v)
	}
	return s, m, nil
}

func (a *amf) take(n int) ([]byte, error) {
	if n < 0 || n > len(a.b) {
		return nil, errTorn
	}
	out := a.b[:n]
	a.b = a.b[n:]
	return out, nil
}

func (a *amf) uint(n int) (int, error) {
	b, err := a.take(n)
	if err != nil {
		return 0, err
	}
	v := 0
	for _, c := range b {
		v = v<<8 | int(c)
	}
	return v, nil
}

func (a *amf) text(prefix int) (string, error) {
	n, err := a.uint(prefix)
	if err != nil {
		return "", err
	}
	b, err := a.take(n)
	return string(b), err
}

func (a *amf) value() (any, error) {
	if a.depth++; a.depth > 32 {
		return nil, errors.New("script data is nested too deeply")
	}
	defer func() { a.depth-- }()
	kind, err := a.uint(1)
	if err != nil {
		return nil, err
	}
	switch kind {
	case 0:
		b, err := a.take(8)
		if err != nil {
			return nil, err
		}
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	case 1:
		v, err := a.uint(1)
		return v != 0, err
	case 2:
		return a.text(2)
	case 3:
		return a.object()
	case 5, 6:
		return nil, nil
	case 8:
		if _, err := a.uint(4); err != nil { // the count is only a hint
			return nil, err
		}
		return a.object()
	case 10:
		n, err := a.uint(4)
		if err != nil {
			return nil, err
		}
		if n > len(a.b) {
			return nil, errTorn
		}
		out := make([]any, 0, min(n, len(a.b)))
		for range n {
			v, err := a.value()
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	case 11:
		b, err := a.take(10)
		if err != nil {
			return nil, err
		}
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	case 12:
		return a.text(4)
	default:
		return nil, fmt.Errorf("AMF0 type %d", kind)
	}
}

func (a *amf) object() (map[string]any, error) {
	out := map[string]any{}
	for {
		key, err := a.text(2)
		if err != nil {
			return nil, err
		}
		if key == "" && len(a.b) > 0 && a.b[0] == 9 {
			a.b = a.b[1:]
			return out, nil
		}
		v, err := a.value()
		if err != nil {
			return nil, err
		}
		out[key] = v
	}
}
