//go:build race

package sftp

const raced = true
