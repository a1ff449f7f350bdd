// Package bilitest is a stand-in for Bilibili: every host of it behind one proxy on loopback, with a certificate
// authority of its own, so that a program that heeds HTTPS_PROXY and SSL_CERT_FILE reaches it without knowing.
//
// It is strict: it refuses what the real service is known to refuse, each refusal with the row of the reference
// (bilibili-upload.md "U", platforms/bilibili.md "L") that says so. It owns the accounts, the faults and the log of
// requests; live rooms, uploads and submissions are further files on the same mux. It never leaves loopback and is no
// part of the program.
package bilitest
