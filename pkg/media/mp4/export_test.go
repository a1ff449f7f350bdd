package mp4

// AddHollow adds a sample of which only the size is there: for offsets that no test can afford. What Flush gives lacks
// the data, but tells of it.
func (w *Writer) AddHollow(s Sample, size uint32) error {
	l := w.lanes[0]
	if err := w.Add(s); err != nil {
		return err
	}
	o := &l.open[len(l.open)-1]
	l.data = l.data[:len(l.data)-len(s.Data)]
	o.size = size
	e := l.at(l.n - 1)
	e.size = e.size&keyBit | size
	l.size, l.mixed = size, false // all are of one size
	return nil
}

// FlushHollow is Flush for hollow samples: moof and the header of mdat, whose payload has size bytes.
func (w *Writer) FlushHollow(dst []byte, size uint32) []byte {
	dst = w.Flush(dst)
	be.PutUint32(dst[len(dst)-8:], 8+size)
	w.written += int64(size)
	return dst
}
