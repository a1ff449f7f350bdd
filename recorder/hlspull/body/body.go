// Package body looks at what came as a media segment: what it is, whether it is whole, and how it is decrypted.
//
// It owns no more than the outermost structure of a segment: packets of 188 bytes, boxes, frames of packed audio. It is
// pure, and never looks at codecs or clocks.
package body

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// Kind is what a segment is.
type Kind uint8

// The kinds of segments.
const (
	Unknown Kind = iota
	TS           // MPEG transport stream
	FMP4         // fragmented MP4, CMAF
	Packed       // AAC, MP3, AC-3 without a container
)

func (k Kind) String() string {
	return [...]string{"unknown", "MPEG-TS", "fMP4", "packed audio"}[k]
}

const packet = 188

// Sniff tells what b is by its first bytes. skip is how much stands before it that does not belong to it: some hosts
// hide a transport stream behind the head of a picture.
func Sniff(b []byte) (k Kind, skip int) {
	switch {
	case isTS(b):
		return TS, 0
	case isBox(b):
		return FMP4, 0
	case isPacked(b):
		return Packed, 0
	case isPicture(b):
		for i := 8; i < min(len(b)-packet, maxPicture); i++ {
			if b[i] == 0x47 && isTS(b[i:]) && len(b)-i > 2*packet {
				return TS, i
			}
		}
	}
	return Unknown, 0
}

// maxPicture is how far a transport stream is looked for behind the head of a picture.
const maxPicture = 64 << 10

func isTS(b []byte) bool {
	if len(b) < packet {
		return false
	}
	for i := 0; i < 3 && i*packet < len(b); i++ {
		if b[i*packet] != 0x47 {
			return false
		}
	}
	return true
}

func isBox(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	switch string(b[4:8]) {
	case "styp", "moof", "sidx", "emsg", "prft", "ftyp", "moov", "mdat", "free", "skip", "ssix", "uuid":
		return true
	}
	return false
}

func isPacked(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	if bytes.HasPrefix(b, []byte("ID3")) {
		return true
	}
	return b[0] == 0xff && b[1]&0xe0 == 0xe0 && b[1] != 0xff || b[0] == 0x0b && b[1] == 0x77
}

func isPicture(b []byte) bool {
	for _, head := range [...]string{"\x89PNG", "GIF8", "BM", "\xff\xd8\xff"} {
		if bytes.HasPrefix(b, []byte(head)) {
			return true
		}
	}
	return false
}

// What names a body that is no media, for people.
func What(b []byte) string {
	head := bytes.ToLower(bytes.TrimLeft(b[:min(len(b), 64)], " \t\r\n\xef\xbb\xbf"))
	switch {
	case len(b) == 0:
		return "nothing"
	case bytes.HasPrefix(head, []byte("<")):
		return "a page"
	case bytes.HasPrefix(head, []byte("{")), bytes.HasPrefix(head, []byte("[")):
		return "JSON"
	case bytes.HasPrefix(head, []byte("#ext")):
		return "a playlist"
	case isPicture(b):
		return "a picture"
	case bytes.HasPrefix(head, []byte("webvtt")):
		return "subtitles"
	}
	return "no media"
}

// Whole reports how many bytes of b, which is of kind k, are whole packets or boxes, and whether that is all.
func Whole(k Kind, b []byte) (n int, whole bool) {
	switch k {
	case TS:
		n = len(b) / packet * packet
		return n, n == len(b) && n > 0
	case FMP4:
		return boxes(b)
	case Packed:
		return len(b), len(b) > 0
	case Unknown:
	}
	return 0, false
}

// boxes walks over the top. A moof whose mdat is missing is not whole, and without any mdat nothing is.
func boxes(b []byte) (n int, whole bool) {
	at, sound, open, data := 0, 0, false, false
	defer func() {
		if !data {
			n = 0
		}
	}()
	for at < len(b) {
		if len(b)-at < 8 {
			return sound, false
		}
		size, head := uint64(binary.BigEndian.Uint32(b[at:])), uint64(8)
		switch size {
		case 0:
			size = uint64(len(b) - at)
		case 1:
			if len(b)-at < 16 {
				return sound, false
			}
			size, head = binary.BigEndian.Uint64(b[at+8:]), 16
		}
		if size < head || size > uint64(len(b)-at) {
			return sound, false
		}
		switch string(b[at+4 : at+8]) {
		case "moof":
			open = true
		case "mdat":
			open, data = false, true
		}
		at += int(size)
		if !open {
			sound = at
		}
	}
	return sound, !open && data
}

// Named checks a body against a title "<size>|<crc32>", both in hex, as Bilibili writes it. said is false if the title
// says nothing.
func Named(title string, b []byte) (said, ok bool) {
	size, sum, found := strings.Cut(title, "|")
	if !found {
		return false, true
	}
	n, err1 := strconv.ParseUint(strings.TrimSpace(size), 16, 63)
	c, err2 := strconv.ParseUint(strings.TrimSpace(sum), 16, 32)
	if err1 != nil || err2 != nil || len(strings.TrimSpace(sum)) > 8 {
		return false, true
	}
	return true, n == uint64(len(b)) && uint32(c) == crc32.ChecksumIEEE(b)
}

// ErrKey says that what came out is no media: the key, or the vector, is another one.
var ErrKey = errors.New("not decrypted by this key")

// Decrypt decrypts AES-128 in CBC, in place, and takes the padding off. The vectors are tried in order until one makes
// sense; used says which one it was. After an error b is what it was.
func Decrypt(b, key []byte, vectors ...[16]byte) (plain []byte, used int, err error) {
	if len(key) != 16 {
		return nil, 0, fmt.Errorf("%w: it has %d bytes instead of 16", ErrKey, len(key))
	}
	if len(b) < 16 || len(b)%16 != 0 {
		return nil, 0, fmt.Errorf("%d bytes are no whole blocks", len(b))
	}
	c, err := aes.NewCipher(key)
	if err != nil {
		return nil, 0, err
	}
	if len(vectors) == 0 {
		vectors = [][16]byte{{}}
	}
	var zero [16]byte
	test := append([]byte(nil), b[:min(len(b), trial)]...)
	cipher.NewCBCDecrypter(c, zero[:]).CryptBlocks(test, test)
	raw := [16]byte(test)
	fits := -1
	for i, v := range vectors {
		for j := range raw {
			test[j] = raw[j] ^ v[j]
		}
		if sound(test) {
			fits = i
			break
		}
	}
	if fits < 0 {
		return nil, 0, ErrKey
	}
	cipher.NewCBCDecrypter(c, vectors[fits][:]).CryptBlocks(b, b)
	pad := int(b[len(b)-1])
	if pad < 1 || pad > 16 {
		return b, fits, nil // not padded, or torn: that is for Whole to say
	}
	for _, x := range b[len(b)-pad:] {
		if int(x) != pad {
			return b, fits, nil
		}
	}
	if k, _ := Sniff(b); k == TS && len(b)%packet == 0 && (len(b)-pad)%packet != 0 {
		return b, fits, nil // not padded, and its last bytes only look like it
	}
	return b[:len(b)-pad], fits, nil
}

// trial is how much is decrypted to find out whether the key is right: three packets, in whole blocks.
const trial = 64 << 4

// sound reports whether the first bytes are those of a segment, as far as that can be told. A vector that is off by
// some segments changes the last bytes of the first block only.
func sound(b []byte) bool {
	k, skip := Sniff(b)
	switch {
	case k == Unknown:
		return false
	case k == TS && skip == 0 && len(b) >= packet:
		return table(b[:packet])
	case k == FMP4 && len(b) >= 16:
		first := string(b[4:8])
		if first == "moof" {
			return string(b[12:16]) == "mfhd"
		}
		if first == "styp" || first == "ftyp" {
			for _, c := range b[8:12] {
				if c < 0x20 || c > 0x7e {
					return false
				}
			}
			return b[12] == 0 && b[13] == 0
		}
	case k == Packed && bytes.HasPrefix(b, []byte("ID3")) && len(b) >= 20:
		return bytes.HasPrefix(b[10:], []byte("PRIV")) || b[10]&0x80 == 0
	}
	return true
}

// table reports whether a packet is sound: of one that holds a whole table, its checksum is.
func table(p []byte) bool {
	pid := int(p[1]&0x1f)<<8 | int(p[2])
	if p[3]&0x10 == 0 || p[1]&0x40 == 0 || pid != 0 && pid != 17 {
		return true
	}
	at := 4
	if p[3]&0x20 != 0 {
		at += 1 + int(p[4])
	}
	if at >= len(p) {
		return false
	}
	at += 1 + int(p[at])
	if at+3 > len(p) {
		return false
	}
	end := at + 3 + (int(p[at+1]&0x0f)<<8 | int(p[at+2]))
	if end > len(p) {
		return pid == 17
	}
	return mpegCRC(p[at:end]) == 0
}

// mpegCRC is the CRC-32 of MPEG-2 tables; 0 over a table with its checksum.
func mpegCRC(b []byte) uint32 {
	crc := ^uint32(0)
	for _, x := range b {
		crc ^= uint32(x) << 24
		for range 8 {
			if crc&(1<<31) != 0 {
				crc = crc<<1 ^ 0x04c11db7
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}
