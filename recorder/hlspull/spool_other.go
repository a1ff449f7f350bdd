//go:build !unix

package hlspull

import (
	"errors"
	"os"
)

func mapped(*os.File, int) ([]byte, error) {
	return nil, errors.New("files cannot be mapped here")
}

func unmap([]byte) {}

func unwritten(error) bool { return false }
