package flv

import "math"

// Colour is what Enhanced FLV says of the colours of a video track: code points of ITU-T H.273.
type Colour struct{ Primaries, Transfer, Matrix uint16 }

// unsaid is the code point for what is not known.
const unsaid = 2

// ParseColour reads the body of a metadata tag of a video track, behind its header: "colorInfo" and an object. ok is false
// if it says nothing of the three, as a tag does that takes back what was said before.
func ParseColour(body []byte) (c Colour, ok bool) {
	r := &amfReader{b: body}
	name, err := r.value(0)
	if err != nil || name.Type != String || name.Text != "colorInfo" {
		return Colour{}, false
	}
	v, err := r.value(0)
	if err != nil {
		return Colour{}, false
	}
	config, _ := Metadata{v.Props}.Get("colorConfig")
	point := func(name string) uint16 {
		n, said := Metadata{config.Props}.Number(name)
		if !said || n < 0 || n > math.MaxUint8 || n != math.Trunc(n) {
			return unsaid
		}
		ok = ok || n != unsaid
		return uint16(n)
	}
	c = Colour{point("colorPrimaries"), point("transferCharacteristics"), point("matrixCoefficients")}
	if !ok {
		return Colour{}, false
	}
	return c, true
}
