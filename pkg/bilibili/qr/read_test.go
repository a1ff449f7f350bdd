package qr_test

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/liverec/liverec/pkg/bilibili/qr"
)

// readBack reads a code that nothing has damaged. It shares nothing with the encoder: the format is searched among the
// 32 words of the standard's annex C, function modules are found by their geometry, and blocks are checked by syndromes.
func readBack(c *qr.Code) (string, error) {
	var word uint32
	for _, at := range [][2]int{{0, 8}, {1, 8}, {2, 8}, {3, 8}, {4, 8}, {5, 8}, {7, 8}, {8, 8}, {8, 7}, {8, 5}, {8, 4}, {8, 3}, {8, 2}, {8, 1}, {8, 0}} {
		word <<= 1
		if c.Dark(at[0], at[1]) {
			word |= 1
		}
	}
	// Annex C, table C.1: level M masks 0-7, level L masks 0-7.
	formats := []uint32{0x5412, 0x5125, 0x5e7c, 0x5b4b, 0x45f9, 0x40ce, 0x4f97, 0x4aa0, 0x77c4, 0x72f3, 0x7daa, 0x789d, 0x662f, 0x6318, 0x6c41, 0x6976}
	found := -1
	for i, f := range formats {
		if f == word {
			found = i
		}
	}
	if found < 0 {
		return "", fmt.Errorf("the format %#x is none", word)
	}
	mask, medium := found%8, found < 8
	if medium != c.Medium {
		return "", errors.New("the format tells another level")
	}
	if c.Version >= 7 {
		// Table D.1.
		want := map[int]uint32{7: 0x07c94, 8: 0x085bc, 9: 0x09a99, 10: 0x0a4d3}[c.Version]
		for turned := range 2 {
			var v uint32
			for i := 17; i >= 0; i-- {
				x, y := c.Size-11+i%3, i/3
				if turned == 1 {
					x, y = y, x
				}
				v <<= 1
				if c.Dark(x, y) {
					v |= 1
				}
			}
			if v != want {
				return "", fmt.Errorf("version word %#x, want %#x", v, want)
			}
		}
	}
	flip := []func(i, j int) bool{ // row i, column j, as in table 10
		func(i, j int) bool { return (i+j)%2 == 0 }, func(i, _ int) bool { return i%2 == 0 },
		func(_, j int) bool { return j%3 == 0 }, func(i, j int) bool { return (i+j)%3 == 0 },
		func(i, j int) bool { return (i/2+j/3)%2 == 0 }, func(i, j int) bool { return (i*j)%2+(i*j)%3 == 0 },
		func(i, j int) bool { return ((i*j)%2+(i*j)%3)%2 == 0 }, func(i, j int) bool { return ((i+j)%2+(i*j)%3)%2 == 0 },
	}[mask]
	var stream []byte
	n, n8 := 0, 0
	upwards := true
	for col := c.Size - 1; col > 0; col -= 2 {
		if col == 6 {
			col--
		}
		for k := range c.Size {
			row := k
			if upwards {
				row = c.Size - 1 - k
			}
			for _, x := range []int{col, col - 1} {
				if reserved(c, x, row) {
					continue
				}
				if n%8 == 0 {
					stream = append(stream, 0)
				}
				stream[n8] <<= 1
				if c.Dark(x, row) != flip(row, x) {
					stream[n8] |= 1
				}
				if n++; n%8 == 0 {
					n8++
				}
			}
		}
		upwards = !upwards
	}
	stream = stream[:n8]
	data, err := blocks(stream, c.Version, medium)
	if err != nil {
		return "", err
	}
	return message(data, c.Version)
}

func reserved(c *qr.Code, x, y int) bool {
	s := c.Size
	switch {
	case x < 9 && y < 9, x >= s-8 && y < 9, x < 9 && y >= s-8, x == 6, y == 6:
		return true
	case c.Version >= 7 && (x >= s-11 && y < 6 || y >= s-11 && x < 6):
		return true
	}
	centers := map[int][]int{2: {18}, 3: {22}, 4: {26}, 5: {30}, 6: {34}, 7: {6, 22, 38}, 8: {6, 24, 42}, 9: {6, 26, 46}, 10: {6, 28, 50}}[c.Version]
	for _, cx := range centers {
		for _, cy := range centers {
			if cx == 6 && (cy == 6 || cy == s-7) || cy == 6 && cx == s-7 {
				continue
			}
			if x >= cx-2 && x <= cx+2 && y >= cy-2 && y <= cy+2 {
				return true
			}
		}
	}
	return false
}

// blocks takes the interleaving apart (table 9: blocks of data words) and checks each block.
func blocks(stream []byte, version int, medium bool) ([]byte, error) {
	type group struct{ n, data int }
	rows := map[int][2][]group{ // level M, level L
		1: {{{1, 16}}, {{1, 19}}}, 2: {{{1, 28}}, {{1, 34}}}, 3: {{{1, 44}}, {{1, 55}}}, 4: {{{2, 32}}, {{1, 80}}}, 5: {{{2, 43}}, {{1, 108}}},
		6: {{{4, 27}}, {{2, 68}}}, 7: {{{4, 31}}, {{2, 78}}}, 8: {{{2, 38}, {2, 39}}, {{2, 97}}}, 9: {{{3, 36}, {2, 37}}, {{2, 116}}},
		10: {{{4, 43}, {1, 44}}, {{2, 68}, {2, 69}}},
	}
	groups := rows[version][1]
	if medium {
		groups = rows[version][0]
	}
	var sizes []int
	sum := 0
	for _, g := range groups {
		for range g.n {
			sizes = append(sizes, g.data)
			sum += g.data
		}
	}
	check := (len(stream) - sum) / len(sizes)
	parts := make([][]byte, len(sizes))
	at := 0
	for i := 0; i < sizes[len(sizes)-1]; i++ {
		for b := range sizes {
			if i < sizes[b] {
				parts[b] = append(parts[b], stream[at])
				at++
			}
		}
	}
	for range check {
		for b := range sizes {
			parts[b] = append(parts[b], stream[at])
			at++
		}
	}
	var data []byte
	for b, p := range parts {
		for k := range check {
			root := 1
			for range k {
				root = gf(root, 2)
			}
			value := 0
			for _, w := range p {
				value = gf(value, root) ^ int(w)
			}
			if value != 0 {
				return nil, fmt.Errorf("block %d: syndrome %d is %d", b, k, value)
			}
		}
		data = append(data, p[:sizes[b]]...)
	}
	return data, nil
}

// gf multiplies polynomials over GF(2) and reduces by x^8+x^4+x^3+x^2+1.
func gf(a, b int) int {
	p := 0
	for i := range 8 {
		if b>>i&1 == 1 {
			p ^= a << i
		}
	}
	for bits.Len(uint(p)) > 8 {
		p ^= 0x11d << (bits.Len(uint(p)) - 9)
	}
	return p
}

func message(data []byte, version int) (string, error) {
	if data[0]>>4 != 4 {
		return "", errors.New("not byte mode")
	}
	nibble := func(i int) int { return int(data[i/2]>>(4*(1-i%2))) & 15 }
	at, n := 1, 0
	digits := 2
	if version >= 10 {
		digits = 4
	}
	for range digits {
		n = n<<4 | nibble(at)
		at++
	}
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(nibble(at)<<4 | nibble(at+1))
		at += 2
	}
	return string(out), nil
}
