package body_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/liverec/liverec/recorder/hlspull/body"
)

// pat is a packet with a whole program association table.
var pat = func() []byte {
	b := []byte{0x47, 0x40, 0, 0x10, 0, 0x00, 0xb0, 0x0d, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0, 0x2a, 0xb1, 0x04, 0xb2}
	return append(b, bytes.Repeat([]byte{0xff}, 188-len(b))...)
}()

func ts(n int) []byte {
	b := bytes.Clone(pat)
	for i := range n {
		b = append(b, append([]byte{0x47, 1, 0, 0x10}, bytes.Repeat([]byte{byte(i)}, 184)...)...)
	}
	return b
}

func box(typ string, n int) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+n))
	return append(append(b, typ...), make([]byte, n)...)
}

func join(bs ...[]byte) []byte { return bytes.Join(bs, nil) }

func TestSniffAndWhole(t *testing.T) {
	moof, mdat := box("moof", 40), box("mdat", 20)
	for _, c := range []struct {
		name  string
		b     []byte
		kind  body.Kind
		skip  int
		n     int
		whole bool
	}{
		{"transport stream", ts(5), body.TS, 0, 6 * 188, true},
		{"torn packet", ts(5)[:5*188+7], body.TS, 0, 5 * 188, false},
		{"behind a picture", join([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 200), ts(5)), body.TS, 208, 6 * 188, true},
		{"a picture", join([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 2000)), body.Unknown, 0, 0, false},
		{"fragments", join(box("styp", 8), moof, mdat, moof, mdat), body.FMP4, 0, 16 + 2*76, true},
		{"a fragment without its data", join(box("styp", 8), moof, mdat, moof), body.FMP4, 0, 16 + 76, false},
		{"torn data", join(moof, mdat, moof, mdat[:20]), body.FMP4, 0, 76, false},
		{"a box that lies", join(moof, mdat, []byte{0, 0, 0, 4, 'f', 'r', 'e', 'e'}), body.FMP4, 0, 76, false},
		{"no media at all", box("styp", 8), body.FMP4, 0, 0, false},
		{"data to the end", join(moof, []byte{0, 0, 0, 0}, []byte("mdat1234")), body.FMP4, 0, 48 + 12, true},
		{"ADTS", append([]byte{0xff, 0xf1}, make([]byte, 30)...), body.Packed, 0, 32, true},
		{"ID3", append([]byte("ID3"), make([]byte, 30)...), body.Packed, 0, 33, true},
		{"page", []byte("<!DOCTYPE html><title>x"), body.Unknown, 0, 0, false},
		{"nothing", nil, body.Unknown, 0, 0, false},
	} {
		kind, skip := body.Sniff(c.b)
		n, whole := body.Whole(kind, c.b[skip:])
		if kind != c.kind || skip != c.skip || n != c.n || whole != c.whole {
			t.Errorf("%s: %v behind %d, %d whole %v", c.name, kind, skip, n, whole)
		}
	}
	for text, want := range map[string]string{"<html": "a page", " {\"a\"": "JSON", "#EXTM3U": "a playlist", "": "nothing", "WEBVTT\n": "subtitles", "GIF89a": "a picture", "xyz": "no media"} {
		if got := body.What([]byte(text)); got != want {
			t.Errorf("%q: %s", text, got)
		}
	}
}

func TestNamed(t *testing.T) {
	b := []byte("some bytes")
	sum := crc32.ChecksumIEEE(b)
	for title, want := range map[string][2]bool{
		fmt.Sprintf("%x|%x", len(b), sum): {true, true}, fmt.Sprintf("%x|%x", len(b)+1, sum): {true, false}, fmt.Sprintf("%x|%x", len(b), sum^1): {true, false},
		"": {false, true}, "a title": {false, true}, "zz|yy": {false, true}, "a|b|c": {false, true}, "1|123456789": {false, true},
	} {
		if said, ok := body.Named(title, b); said != want[0] || ok != want[1] {
			t.Errorf("%q: %v %v", title, said, ok)
		}
	}
}

func TestDecrypt(t *testing.T) {
	key := []byte("0123456789abcdef")
	iv := func(n byte) (v [16]byte) { v[15] = n; return v }
	crypt := func(b []byte, v [16]byte, padded bool) []byte {
		c, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		b = bytes.Clone(b)
		if padded {
			n := 16 - len(b)%16
			b = append(b, bytes.Repeat([]byte{byte(n)}, n)...)
		}
		cipher.NewCBCEncrypter(c, v[:]).CryptBlocks(b, b)
		return b
	}
	moof := join([]byte{0, 0, 0, 48}, []byte("moof"), []byte{0, 0, 0, 16}, []byte("mfhd"), make([]byte, 32), box("mdat", 20))
	for _, c := range []struct {
		name    string
		b       []byte
		key     []byte
		vectors [][16]byte
		want    []byte
		used    int
		wrong   bool
	}{
		{"as it should be", crypt(ts(9), iv(7), true), key, [][16]byte{iv(7)}, ts(9), 0, false},
		{"another number", crypt(ts(9), iv(9), true), key, [][16]byte{iv(7), iv(8), iv(9)}, ts(9), 2, false},
		{"another number, fMP4", crypt(moof, iv(9), true), key, [][16]byte{iv(7), iv(9)}, moof, 1, false},
		{"no number fits", crypt(ts(9), iv(9), true), key, [][16]byte{iv(7), iv(8)}, nil, 0, true},
		{"another key", crypt(ts(9), iv(7), true), []byte("fedcba9876543210"), [][16]byte{iv(7)}, nil, 0, true},
		{"17 bytes of key", crypt(ts(9), iv(7), true), append(bytes.Clone(key), 'x'), [][16]byte{iv(7)}, nil, 0, true},
		{"not padded", crypt(ts(3), iv(7), false), key, [][16]byte{iv(7)}, ts(3), 0, false},
	} {
		was := bytes.Clone(c.b)
		got, used, err := body.Decrypt(c.b, c.key, c.vectors...)
		if c.wrong {
			if !errors.Is(err, body.ErrKey) || !bytes.Equal(was, c.b) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil || used != c.used || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %d bytes, vector %d, %v", c.name, len(got), used, err)
		}
	}
	if _, _, err := body.Decrypt(make([]byte, 33), key, iv(1)); err == nil || !strings.Contains(err.Error(), "blocks") {
		t.Errorf("%v", err)
	}
}

func FuzzBody(f *testing.F) {
	f.Add(ts(3), []byte("0123456789abcdef"), "a|b")
	f.Add(join(box("styp", 8), box("moof", 40), box("mdat", 20)), []byte("0123456789abcdef"), "44|0")
	f.Add(join([]byte("GIF8"), ts(3)), []byte("x"), "")
	f.Fuzz(func(t *testing.T, b, key []byte, title string) {
		k, skip := body.Sniff(b)
		if skip < 0 || skip > len(b) {
			t.Fatalf("skip %d of %d", skip, len(b))
		}
		if n, whole := body.Whole(k, b[skip:]); n < 0 || n > len(b)-skip || whole && n != len(b)-skip {
			t.Fatalf("%d of %d, whole %v", n, len(b)-skip, whole)
		}
		body.Named(title, b)
		body.What(b)
		if p, _, err := body.Decrypt(b, key, [16]byte{}, [16]byte{1}); err == nil && len(p) > len(b) {
			t.Fatalf("%d bytes of %d", len(p), len(b))
		}
	})
}
