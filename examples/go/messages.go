package validator

import (
	"regexp"
	"strconv"
)

// The messages of token_service.v1 that a validator reads. Times are seconds since the Unix epoch.

// Revocation is one entry of the log. Target is the name of the field that is set, or empty.
type Revocation struct {
	Sequence               int64
	Target, Value          string
	RevokeTime, ExpireTime float64
	TokenExpireTime        *float64
}

// Block is a SnapshotBlock.
type Block struct {
	Target       string
	Bucket       int64
	Fingerprints []byte
	ExpireTime   float64
}

// KeySet is a KeySet.
type KeySet struct {
	Revision int64
	Issuer   string
	Keys     []JWK
}

// Message is a StreamRevocationsResponse.
type Message struct {
	Reset, CaughtUp, ConfirmationRequested bool
	Revocations                            []Revocation
	Blocks                                 []Block
	KeySet                                 *KeySet
	Cursor                                 string
}

// cursor is a place in the log. The zero value is no place.
type cursor struct {
	log, text string
	sequence  int64
}

var cursorText = regexp.MustCompile(`^([A-Za-z0-9_-]{8,32}):(0|[1-9][0-9]{0,15})$`)

// parseCursor reads a cursor. An empty text gives the zero value.
func parseCursor(text string) (cursor, error) {
	if text == "" {
		return cursor{}, nil
	}
	match := cursorText.FindStringSubmatch(text)
	if match == nil {
		return cursor{}, errProtocol
	}
	sequence, err := strconv.ParseInt(match[2], 10, 64)
	return cursor{match[1], text, sequence}, err
}
