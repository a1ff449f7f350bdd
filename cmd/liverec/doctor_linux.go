package main

import (
	"golang.org/x/sys/unix"
)

// inotify says why the system does not tell of changed files, "" if it does.
func inotify() string {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return "the system watches no more files for this user: " + err.Error()
	}
	if err := unix.Close(fd); err != nil {
		return "close a file watch: " + err.Error()
	}
	return ""
}
