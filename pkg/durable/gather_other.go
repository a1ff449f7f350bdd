//go:build !linux

package durable

// gatherer is empty where the system is given one piece at a time.
type gatherer struct{}

func (f *File) gather(pieces [][]byte, off int64) (total int64, err error) {
	for _, p := range pieces {
		n, err := f.f.WriteAt(p, off+total)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
