package example;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import org.apache.avro.Schema;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.avro.specific.SpecificDatumReader;
import org.apache.avro.specific.SpecificDatumWriter;
import org.apache.avro.specific.SpecificRecord;
import org.apache.avro.util.ClassSecurityValidator;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serializer;

/** Confluent's frame around Avro data: byte 0, the schema's id in four bytes, the datum. */
final class Framed {
  private static final int HEAD = 1 + Integer.BYTES;

  static {
    // Avro makes objects of no class that it is not told to trust.
    ClassSecurityValidator.setGlobal(
        ClassSecurityValidator.composite(
            ClassSecurityValidator.getGlobal(), type -> type.getPackageName().equals("pointsman")));
  }

  private Framed() {}

  static <T extends SpecificRecord> Serializer<T> serializer(Registry registry, Schema schema) {
    int id = registry.idOf(schema);
    SpecificDatumWriter<T> writer = new SpecificDatumWriter<>(schema);
    return (topic, record) -> {
      ByteArrayOutputStream value = new ByteArrayOutputStream();
      value.writeBytes(ByteBuffer.allocate(HEAD).put((byte) 0).putInt(id).array());
      BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(value, null);
      try {
        writer.write(record, encoder);
        encoder.flush();
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
      return value.toByteArray();
    };
  }

  /** Reads what any version of the record was written with, as today's. */
  static <T extends SpecificRecord> Deserializer<T> deserializer(Registry registry, Schema today) {
    return (topic, value) -> {
      ByteBuffer head = ByteBuffer.wrap(value);
      if (value.length < HEAD || head.get() != 0) {
        throw new SerializationException("the value does not start with byte 0 and a schema id");
      }
      SpecificDatumReader<T> reader = new SpecificDatumReader<>(registry.schema(head.getInt()), today);
      try {
        return reader.read(null, DecoderFactory.get().binaryDecoder(value, HEAD, value.length - HEAD, null));
      } catch (IOException error) {
        throw new SerializationException("the value is no datum of its schema", error);
      }
    };
  }
}
