package peer;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.util.IdentityHashMap;
import java.util.Map;
import org.apache.avro.Schema;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.avro.specific.SpecificDatumReader;
import org.apache.avro.specific.SpecificDatumWriter;
import org.apache.avro.specific.SpecificRecord;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serializer;

/** Avro as Confluent frames it: byte 0, the schema's id, one datum. Each instance serves one thread, as Kafka's do. */
final class Framed {
    private static final int FRAME_BYTES = 5;

    private Framed() {}

    /** Values of one record type. */
    static final class Reader<T extends SpecificRecord> implements Deserializer<T> {
        private final int schemaId;
        private final SpecificDatumReader<T> reader;
        private BinaryDecoder decoder;

        Reader(Schema schema, int schemaId) {
            this.schemaId = schemaId;
            this.reader = new SpecificDatumReader<>(schema);
        }

        @Override
        public T deserialize(String topic, byte[] value) {
            ByteBuffer frame = ByteBuffer.wrap(value);
            if (frame.get() != 0 || frame.getInt() != schemaId) {
                throw new SerializationException("not framed by schema " + schemaId);
            }
            decoder = DecoderFactory.get().binaryDecoder(value, FRAME_BYTES, value.length - FRAME_BYTES, decoder);
            try {
                return reader.read(null, decoder);
            } catch (IOException error) {
                throw new SerializationException(error);
            }
        }
    }

    /** Records of whatever type, each framed by the id of its name. */
    static final class Writer implements Serializer<Decision> {
        private final Map<String, Integer> schemaIds;
        private final Map<Schema, SpecificDatumWriter<SpecificRecord>> writers = new IdentityHashMap<>();
        private final ByteArrayOutputStream out = new ByteArrayOutputStream(1024);
        private BinaryEncoder encoder;

        Writer(Map<String, Integer> schemaIds) {
            this.schemaIds = schemaIds;
        }

        @Override
        public byte[] serialize(String topic, Decision decision) {
            SpecificRecord record = decision.record();
            out.reset();
            int id = schemaIds.get(record.getSchema().getName());
            out.write(0);
            for (int shift = 24; shift >= 0; shift -= 8) {
                out.write(id >> shift);
            }
            encoder = EncoderFactory.get().directBinaryEncoder(out, encoder);
            try {
                writers.computeIfAbsent(record.getSchema(), SpecificDatumWriter::new).write(record, encoder);
                encoder.flush();
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            return out.toByteArray();
        }
    }
}
