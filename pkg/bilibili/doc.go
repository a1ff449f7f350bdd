// Package bilibili is one Bilibili account and the way in which its web and app interfaces are spoken to: the cookie
// file and its renewal, signatures, the answer envelope, the table of refusals, the pace at which one account may
// upload and submit, and the QR login.
//
// It owns the cookie file and two files beside it (NAME.lock, NAME.pace), which every process that shares the file
// uses. It never knows rooms, parts or submissions: the site and the target of the same name build their calls on
// Client. It starts no goroutine and keeps no secret in any printable form.
package bilibili
