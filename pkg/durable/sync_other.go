//go:build !linux

package durable

import "os"

func fdatasync(f *os.File) error { return f.Sync() }

func allocate(*os.File, int64) (done bool, err error) { return false, nil }
