package recorder

// gops remembers the last groups of pictures of a session, so that a cut can be made before the one that would not fit.
type gops struct {
	length [gopMemory]int64 // ms
	bytes  [gopMemory]int64
	n      int
	// of the group that is growing
	open  bool
	start int64 // output time
	at    int64 // file size when it began
}

// begin starts a group at an output time and a file size. The one before it is over.
func (g *gops) begin(out, size int64) {
	if g.open {
		g.length[g.n%gopMemory] = max(out-g.start, 0)
		g.bytes[g.n%gopMemory] = max(size-g.at, 0)
		g.n++
	}
	g.open, g.start, g.at = true, out, size
}

// moved says that the growing group goes on in another file, whose size is given.
func (g *gops) moved(size int64) { g.at = size }

// broken says that the growing group was not seen whole: it says nothing about the next one.
func (g *gops) broken() { g.open = false }

// longest is the longest group of those that are remembered, in ms.
func (g *gops) longest() int64 { return largest(&g.length) }

// largest is the largest group of those that are remembered, in bytes.
func (g *gops) largest() int64 { return largest(&g.bytes) }

func largest(v *[gopMemory]int64) int64 {
	m := v[0]
	for _, x := range v[1:] {
		m = max(m, x)
	}
	return m
}
