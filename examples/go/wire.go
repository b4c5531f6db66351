package validator

import (
	"encoding/binary"
	"math"
)

// The encoding of Protocol Buffers for the few messages that a validator needs. The numbers are those of
// token_service.proto and key_service.proto.

func appendText(to []byte, field int, text string) []byte {
	if text == "" {
		return to
	}
	to = binary.AppendUvarint(to, uint64(field)<<3|2)
	to = binary.AppendUvarint(to, uint64(len(text)))
	return append(to, text...)
}

func appendNumber(to []byte, field int, number int64) []byte {
	if number == 0 {
		return to
	}
	return binary.AppendUvarint(binary.AppendUvarint(to, uint64(field)<<3), uint64(number))
}

// encodeStreamRequest encodes a StreamRevocationsRequest.
func encodeStreamRequest(cursor, subscriberID string) []byte {
	return appendText(appendText(nil, 1, cursor), 2, subscriberID)
}

// encodeConfirmRequest encodes a ConfirmRevocationsRequest.
func encodeConfirmRequest(subscriberID, appliedCursor string, keyRevision int64) []byte {
	return appendNumber(appendText(appendText(nil, 1, subscriberID), 2, appliedCursor), 3, keyRevision)
}

// fields calls use for each field of a message: with the number of a varint field, or the bytes of a field with a length.
// It skips other fields.
func fields(data []byte, use func(field int, number uint64, data []byte) error) error {
	for len(data) > 0 {
		tag, read := binary.Uvarint(data)
		if read <= 0 || tag>>3 > math.MaxInt32 {
			return errProtocol
		}
		data = data[read:]
		var number uint64
		var part []byte
		switch tag & 7 {
		case 0:
			number, read = binary.Uvarint(data)
		case 1:
			read = 8
		case 2:
			var length uint64
			if length, read = binary.Uvarint(data); read > 0 {
				if length > uint64(len(data)-read) {
					return errProtocol
				}
				part = data[read : read+int(length)]
				read += int(length)
			}
		case 5:
			read = 4
		default:
			return errProtocol
		}
		if read <= 0 || read > len(data) {
			return errProtocol
		}
		data = data[read:]
		if err := use(int(tag>>3), number, part); err != nil {
			return err
		}
	}
	return nil
}

func decodeTimestamp(data []byte) (float64, error) {
	var seconds, nanos int64
	err := fields(data, func(field int, number uint64, _ []byte) error {
		switch field {
		case 1:
			seconds = int64(number)
		case 2:
			nanos = int64(number)
		}
		return nil
	})
	return float64(seconds) + float64(nanos)/1e9, err
}

func decodeMessage(data []byte) (*Message, error) {
	message := &Message{}
	err := fields(data, func(field int, number uint64, data []byte) (err error) {
		switch field {
		case 1:
			message.Reset = number != 0
		case 2:
			var entry Revocation
			entry, err = decodeRevocation(data)
			message.Revocations = append(message.Revocations, entry)
		case 3:
			var block Block
			block, err = decodeBlock(data)
			message.Blocks = append(message.Blocks, block)
		case 4:
			message.KeySet, err = decodeKeySet(data)
		case 5:
			message.Cursor = string(data)
		case 6:
			message.CaughtUp = number != 0
		case 7:
			message.ConfirmationRequested = number != 0
		}
		return err
	})
	return message, err
}

func decodeRevocation(data []byte) (Revocation, error) {
	targets := map[int]string{2: "token_id", 3: "session_id", 4: "subject", 5: "client_id", 6: "key_id", 7: "everything"}
	var entry Revocation
	err := fields(data, func(field int, number uint64, data []byte) (err error) {
		switch field {
		case 1:
			entry.Sequence = int64(number)
		case 2, 3, 4, 5, 6, 7:
			entry.Target, entry.Value = targets[field], string(data)
		case 8:
			entry.RevokeTime, err = decodeTimestamp(data)
		case 9:
			entry.ExpireTime, err = decodeTimestamp(data)
		case 11:
			var expiry float64
			expiry, err = decodeTimestamp(data)
			entry.TokenExpireTime = &expiry
		}
		return err
	})
	return entry, err
}

func decodeBlock(data []byte) (Block, error) {
	targets := map[uint64]string{1: "BLOCK_TARGET_TOKEN_ID", 2: "BLOCK_TARGET_SESSION_ID"}
	var block Block
	err := fields(data, func(field int, number uint64, data []byte) (err error) {
		switch field {
		case 1:
			block.Target = targets[number]
		case 2:
			block.Bucket = int64(number)
		case 3:
			block.Fingerprints = data
		case 4:
			block.ExpireTime, err = decodeTimestamp(data)
		}
		return err
	})
	return block, err
}

func decodeKeySet(data []byte) (*KeySet, error) {
	set := &KeySet{}
	err := fields(data, func(field int, number uint64, data []byte) error {
		switch field {
		case 1:
			set.Revision = int64(number)
		case 2:
			var jwk JWK
			names := map[int]*string{1: &jwk.Kty, 2: &jwk.Kid, 3: &jwk.Use, 4: &jwk.Alg, 5: &jwk.N, 6: &jwk.E, 7: &jwk.Crv, 8: &jwk.X, 9: &jwk.Y}
			err := fields(data, func(field int, _ uint64, data []byte) error {
				if name := names[field]; name != nil {
					*name = string(data)
				}
				return nil
			})
			set.Keys = append(set.Keys, jwk)
			return err
		case 3:
			set.Issuer = string(data)
		}
		return nil
	})
	return set, err
}

// decodeHead returns the head of a ConfirmRevocationsResponse.
func decodeHead(data []byte) (string, error) {
	var head string
	err := fields(data, func(field int, _ uint64, data []byte) error {
		if field == 1 {
			head = string(data)
		}
		return nil
	})
	return head, err
}

// decodeKeySetResponse returns the key set of a GetKeySetResponse.
func decodeKeySetResponse(data []byte) (*KeySet, error) {
	set := &KeySet{}
	err := fields(data, func(field int, _ uint64, data []byte) (err error) {
		if field == 1 {
			set, err = decodeKeySet(data)
		}
		return err
	})
	return set, err
}
