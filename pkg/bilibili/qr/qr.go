// Package qr draws a short text, such as a login address, as a QR code for a terminal.
//
// It owns the code (ISO/IEC 18004, byte mode, versions 1 to 10, levels L and M) and its drawing in half blocks. It never
// reads a code and writes nowhere.
package qr

import (
	"fmt"
	"strings"
)

// Code is a QR code.
type Code struct {
	Version int  // 1 … 10
	Medium  bool // error correction of level M, else L
	Size    int  // modules per side
	dark    []bool
	fixed   []bool // modules that carry no data
}

// level holds what a version has at one level of error correction.
type level struct{ check, blocks int } // check words per block

// total is the number of code words of each version.
var total = [11]int{0, 26, 44, 70, 100, 134, 172, 196, 242, 292, 346}

var low = [11]level{{}, {7, 1}, {10, 1}, {15, 1}, {20, 1}, {26, 1}, {18, 2}, {20, 2}, {24, 2}, {30, 2}, {18, 4}}

var medium = [11]level{{}, {10, 1}, {16, 1}, {26, 1}, {18, 2}, {24, 2}, {16, 4}, {18, 4}, {22, 4}, {22, 5}, {26, 5}}

// aligned are the coordinates of the alignment patterns.
var aligned = [11][]int{nil, nil, {6, 18}, {6, 22}, {6, 26}, {6, 30}, {6, 34}, {6, 22, 38}, {6, 24, 42}, {6, 26, 46}, {6, 28, 50}}

// room is how many bytes a version takes.
func (l level) room(version int) int {
	bits := 8 * (total[version] - l.check*l.blocks)
	return (bits - 4 - countBits(version)) / 8
}

func countBits(version int) int {
	if version < 10 {
		return 8
	}
	return 16
}

// Encode makes the smallest code that holds text, with the better error correction where that costs nothing. Texts of
// more than 271 bytes do not fit.
func Encode(text string) (*Code, error) {
	version := 1
	for version <= 10 && low[version].room(version) < len(text) {
		version++
	}
	if version > 10 {
		return nil, fmt.Errorf("draw a QR code: %d bytes are too many, 271 fit", len(text))
	}
	l, better := low[version], medium[version].room(version) >= len(text)
	if better {
		l = medium[version]
	}
	c := &Code{Version: version, Medium: better, Size: 17 + 4*version}
	c.dark, c.fixed = make([]bool, c.Size*c.Size), make([]bool, c.Size*c.Size)
	c.patterns()
	c.place(words(text, version, l))
	best, least := 0, -1
	for mask := range 8 {
		c.mask(mask)
		c.format(mask)
		if p := c.penalty(); least < 0 || p < least {
			best, least = mask, p
		}
		c.mask(mask) // twice is not at all
	}
	c.mask(best)
	c.format(best)
	return c, nil
}

// Dark reports whether a module is dark. What lies outside is light.
func (c *Code) Dark(x, y int) bool {
	return x >= 0 && y >= 0 && x < c.Size && y < c.Size && c.dark[y*c.Size+x]
}

func (c *Code) fix(x, y int, dark bool) {
	if x >= 0 && y >= 0 && x < c.Size && y < c.Size {
		c.dark[y*c.Size+x], c.fixed[y*c.Size+x] = dark, true
	}
}

// patterns draws what is the same in each code of a version, and keeps the place of the format free.
func (c *Code) patterns() {
	for i := range c.Size {
		c.fix(i, 6, i%2 == 0)
		c.fix(6, i, i%2 == 0)
	}
	for _, at := range [][2]int{{3, 3}, {c.Size - 4, 3}, {3, c.Size - 4}} {
		for dy := -4; dy <= 4; dy++ {
			for dx := -4; dx <= 4; dx++ {
				r := max(dx, -dx, dy, -dy)
				c.fix(at[0]+dx, at[1]+dy, r != 2 && r != 4)
			}
		}
	}
	n := len(aligned[c.Version])
	for i, y := range aligned[c.Version] {
		for j, x := range aligned[c.Version] {
			if i == 0 && j == 0 || i == 0 && j == n-1 || i == n-1 && j == 0 {
				continue // a finder stands there
			}
			for dy := -2; dy <= 2; dy++ {
				for dx := -2; dx <= 2; dx++ {
					c.fix(x+dx, y+dy, max(dx, -dx, dy, -dy) != 1)
				}
			}
		}
	}
	c.format(0)
	if c.Version < 7 {
		return
	}
	rest := c.Version
	for range 12 {
		rest = rest<<1 ^ rest>>11*0x1f25
	}
	bits := c.Version<<12 | rest
	for i := range 18 {
		dark := bits>>i&1 == 1
		c.fix(c.Size-11+i%3, i/3, dark)
		c.fix(i/3, c.Size-11+i%3, dark)
	}
}

// format draws level and mask, twice.
func (c *Code) format(mask int) {
	data := mask
	if !c.Medium {
		data |= 1 << 3
	}
	rest := data
	for range 10 {
		rest = rest<<1 ^ rest>>9*0x537
	}
	bits := (data<<10 | rest) ^ 0x5412
	bit := func(i int) bool { return bits>>i&1 == 1 }
	for i := range 6 {
		c.fix(8, i, bit(i))
	}
	c.fix(8, 7, bit(6))
	c.fix(8, 8, bit(7))
	c.fix(7, 8, bit(8))
	for i := 9; i < 15; i++ {
		c.fix(14-i, 8, bit(i))
	}
	for i := range 8 {
		c.fix(c.Size-1-i, 8, bit(i))
	}
	for i := 8; i < 15; i++ {
		c.fix(8, c.Size-15+i, bit(i))
	}
	c.fix(8, c.Size-8, true)
}

// words are the code words of a text: data in blocks, each with its check words, interleaved.
func words(text string, version int, l level) []byte {
	bits := &bitString{}
	bits.put(4, 4) // byte mode
	bits.put(len(text), countBits(version))
	for i := range len(text) {
		bits.put(int(text[i]), 8)
	}
	room := total[version] - l.check*l.blocks
	bits.put(0, min(4, 8*room-bits.n)) // end
	bits.put(0, (8-bits.n%8)%8)
	for pad := 0xec; len(bits.b) < room; pad ^= 0xec ^ 0x11 {
		bits.put(pad, 8)
	}
	short, long := room/l.blocks, room%l.blocks // the last blocks have one word more
	gen := generator(l.check)
	var data, check [][]byte
	for i, at := 0, 0; i < l.blocks; i++ {
		n := short
		if i >= l.blocks-long {
			n++
		}
		data = append(data, bits.b[at:at+n])
		check = append(check, remainder(bits.b[at:at+n], gen))
		at += n
	}
	out := make([]byte, 0, total[version])
	for i := range short + 1 {
		for _, d := range data {
			if i < len(d) {
				out = append(out, d[i])
			}
		}
	}
	for i := range l.check {
		for _, k := range check {
			out = append(out, k[i])
		}
	}
	return out
}

type bitString struct {
	b []byte
	n int
}

func (s *bitString) put(v, n int) {
	for i := n - 1; i >= 0; i-- {
		if s.n%8 == 0 {
			s.b = append(s.b, 0)
		}
		s.b[s.n/8] |= byte(v>>i&1) << (7 - s.n%8)
		s.n++
	}
}

// times multiplies in GF(2^8) over 0x11d.
func times(a, b byte) byte {
	var p byte
	for ; b > 0; b >>= 1 {
		if b&1 == 1 {
			p ^= a
		}
		if a&0x80 != 0 {
			a = a<<1 ^ 0x1d
		} else {
			a <<= 1
		}
	}
	return p
}

// generator is the Reed-Solomon generator of n check words, without its leading 1.
func generator(n int) []byte {
	g := make([]byte, n)
	g[n-1] = 1
	root := byte(1)
	for range n {
		for j := range g {
			g[j] = times(g[j], root)
			if j+1 < n {
				g[j] ^= g[j+1]
			}
		}
		root = times(root, 2)
	}
	return g
}

// remainder are the check words of a block.
func remainder(data, gen []byte) []byte {
	r := make([]byte, len(gen))
	for _, d := range data {
		f := d ^ r[0]
		copy(r, r[1:])
		r[len(r)-1] = 0
		for i := range r {
			r[i] ^= times(gen[i], f)
		}
	}
	return r
}

// place puts the code words into the free modules, in columns of two from the right, upwards and downwards in turn.
func (c *Code) place(words []byte) {
	i := 0
	for right := c.Size - 1; right >= 1; right -= 2 {
		if right == 6 {
			right = 5 // the timing column
		}
		up := (right+1)&2 == 0
		for v := range c.Size {
			y := v
			if up {
				y = c.Size - 1 - v
			}
			for _, x := range []int{right, right - 1} {
				if c.fixed[y*c.Size+x] {
					continue
				}
				if i < 8*len(words) {
					c.dark[y*c.Size+x] = words[i/8]>>(7-i%8)&1 == 1
					i++
				}
			}
		}
	}
}

// mask turns the data modules over where the pattern says so.
func (c *Code) mask(mask int) {
	for y := range c.Size {
		for x := range c.Size {
			if !c.fixed[y*c.Size+x] && masked(mask, x, y) {
				c.dark[y*c.Size+x] = !c.dark[y*c.Size+x]
			}
		}
	}
}

func masked(mask, x, y int) bool {
	switch mask {
	case 0:
		return (x+y)%2 == 0
	case 1:
		return y%2 == 0
	case 2:
		return x%3 == 0
	case 3:
		return (x+y)%3 == 0
	case 4:
		return (x/3+y/2)%2 == 0
	case 5:
		return x*y%2+x*y%3 == 0
	case 6:
		return (x*y%2+x*y%3)%2 == 0
	}
	return ((x+y)%2+x*y%3)%2 == 0
}

// penalty is how hard the code is to read.
func (c *Code) penalty() int {
	p, dark := 0, 0
	for _, at := range []func(i, j int) bool{func(i, j int) bool { return c.Dark(j, i) }, func(i, j int) bool { return c.Dark(i, j) }} {
		for i := range c.Size {
			run := 0
			for j := range c.Size {
				if j > 0 && at(i, j) == at(i, j-1) {
					run++
				} else {
					run = 1
				}
				switch {
				case run == 5:
					p += 3
				case run > 5:
					p++
				}
			}
			for j := -4; j < c.Size; j++ { // 1:1:3:1:1 with four light ones beside it
				finder := at2(at, i, j, c.Size) && !at2(at, i, j+1, c.Size) && at2(at, i, j+2, c.Size) && at2(at, i, j+3, c.Size) &&
					at2(at, i, j+4, c.Size) && !at2(at, i, j+5, c.Size) && at2(at, i, j+6, c.Size)
				if !finder {
					continue
				}
				before, after := true, true
				for k := 1; k <= 4; k++ {
					before = before && !at2(at, i, j-k, c.Size)
					after = after && !at2(at, i, j+6+k, c.Size)
				}
				if before || after {
					p += 40
				}
			}
		}
	}
	for y := range c.Size {
		for x := range c.Size {
			d := c.Dark(x, y)
			if d {
				dark++
			}
			if x > 0 && y > 0 && d == c.Dark(x-1, y) && d == c.Dark(x, y-1) && d == c.Dark(x-1, y-1) {
				p += 3
			}
		}
	}
	off := 100*dark/(c.Size*c.Size) - 50
	return p + 10*(max(off, -off)/5)
}

func at2(at func(i, j int) bool, i, j, size int) bool { return j >= 0 && j < size && at(i, j) }

// quiet is the light border: two modules are enough for a phone, and let a code of 41 modules fit into 24 lines.
const quiet = 2

// Lines draws the code, two rows of modules to a line. With color, dark is black and light is white, whatever the
// terminal's colors are; without, light modules are drawn and the background has to be dark.
func (c *Code) Lines(color bool) []string {
	var lines []string
	for y := -quiet; y < c.Size+quiet; y += 2 {
		var b strings.Builder
		if color {
			b.WriteString("\x1b[38;5;16;48;5;231m")
		}
		for x := -quiet; x < c.Size+quiet; x++ {
			upper, lower := c.Dark(x, y), c.Dark(x, y+1)
			if !color {
				upper, lower = !upper, !lower && y+1 < c.Size+quiet
			}
			switch {
			case upper && lower:
				b.WriteRune('█')
			case upper:
				b.WriteRune('▀')
			case lower:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		if color {
			b.WriteString("\x1b[0m")
		}
		lines = append(lines, b.String())
	}
	return lines
}
