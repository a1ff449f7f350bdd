package liveroom

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"time"
)

// seiID is the UUID of our SEI message (user_data_unregistered). Like everything behind it, it holds no zero byte, so
// that the payload never needs emulation prevention.
const seiID = "\xc4\x6e\x21\x5d\x9b\x37\x4f\xa8\xb1\x66\x52\xe9\x7a\x3d\x1f\x8c"

// Layout of the NAL unit: type 6, payload type 5, payload size (ff… + rest), then
//
//	16 bytes  seiID
//	16 bytes  picture number, hexadecimal
//	16 bytes  wall clock, nanoseconds since 1970, hexadecimal
//	n bytes   padding, none of them zero
//	 1 byte   80 (rbsp trailing bits)
const seiFixed = 48

// seiSize is the size of the NAL unit without padding and without its length prefix.
const seiSize = 1 + 1 + 1 + seiFixed + 1

func bits(v float64) uint64 { return math.Float64bits(v) }

// number makes the tag body of picture n from the clip's own: the SEI message goes in front of the access unit.
func number(body []byte, n uint64, at time.Time, padding []byte) []byte {
	payload := seiFixed + len(padding)
	nal := 1 + 1 + payload/255 + 1 + payload + 1
	out := make([]byte, 0, len(body)+4+nal)
	out = append(out, body[:5]...)
	out = binary.BigEndian.AppendUint32(out, uint32(nal))
	out = append(out, 6, 5)
	for rest := payload; ; rest -= 255 {
		if rest < 255 {
			out = append(out, byte(rest))
			break
		}
		out = append(out, 255)
	}
	out = append(out, seiID...)
	out = appendHex(out, n)
	out = appendHex(out, uint64(at.UnixNano()))
	out = append(out, padding...)
	out = append(out, 0x80)
	return append(out, body[5:]...)
}

func appendHex(b []byte, v uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[v>>shift&15])
	}
	return b
}

// FrameNumber reads the number of a picture from the body of its FLV video tag. It is false for everything that does
// not come from a live room of this package: other streams, sequence headers, audio.
func FrameNumber(body []byte) (uint64, bool) {
	s, ok := message(body)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(string(s[16:32]), 16, 64)
	return n, err == nil
}

// FrameTime reads when the picture was made.
func FrameTime(body []byte) (time.Time, bool) {
	s, ok := message(body)
	if !ok {
		return time.Time{}, false
	}
	ns, err := strconv.ParseUint(string(s[32:48]), 16, 64)
	return time.Unix(0, int64(ns)), err == nil
}

// message finds the payload of our SEI message, at least seiFixed bytes.
func message(body []byte) ([]byte, bool) {
	if len(body) < 5 || body[0]&0x8f != 7 || body[1] != 1 {
		return nil, false
	}
	for b := body[5:]; len(b) > 4; {
		size := uint64(binary.BigEndian.Uint32(b))
		if b = b[4:]; size > uint64(len(b)) {
			return nil, false
		}
		nal := b[:size]
		b = b[size:]
		if size < seiSize || nal[0]&0x1f != 6 || nal[1] != 5 {
			continue
		}
		nal = nal[2:]
		for len(nal) > 0 && nal[0] == 255 {
			nal = nal[1:]
		}
		if len(nal) > seiFixed && bytes.HasPrefix(nal[1:], []byte(seiID)) {
			return nal[1:], true
		}
	}
	return nil, false
}
