package durable

import (
	"fmt"
	"os"
)

// Nameless gives a file below the folder dir that has no name: it is gone with the last one who has it open, whatever ends
// the process. It is for what needs no surviving.
func Nameless(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".liverec-*")
	if err != nil {
		return nil, fmt.Errorf("create a nameless file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("take the name of a file: %w", err)
	}
	return f, nil
}
